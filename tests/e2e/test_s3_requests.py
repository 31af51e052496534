"""How often S3 is asked for a stage whose result is there already; counted by a proxy, whatever client asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_core.runtime.storage import Storage
from kd_ops.bridge.stage_run import run_stage
from kd_ops.lineage.reuse import settle
from tests.helpers.miniature import STAGES, Miniature
from tests.helpers.s3_proxy import S3Proxy
from tests.helpers.s3_server import S3Server

pytestmark = pytest.mark.e2e

A_STAGE = 4
"""Requests that a run may make for each stage that it takes over."""
ALONE = 12
"""Requests of a stage's own process that finds its result, without those for what the stages before it wrote."""
LOOK = 2
"""Requests for what there is of the stages before it; one more reads each."""


@pytest.fixture
def mini(s3: S3Server, proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    mini = Miniature(tmp_path, s3.url(f"{tmp_path.name}/store"), s3.url(f"{tmp_path.name}/runs"))
    for name, value in {**mini.environment(), **s3.environment, "AWS_ENDPOINT_URL": proxy.endpoint}.items():
        monkeypatch.setenv(name, value)
    return mini


def test_a_stage_that_is_there_costs_few_requests(proxy: S3Proxy, mini: Miniature) -> None:
    first = mini.run("first")
    for stage in STAGES:
        assert run_stage(first, stage, mini.settings()) == 0
    second, third = mini.run("second"), mini.run("third")
    proxy.requests.clear()
    assert sorted(settle(second, mini.settings())) == sorted(STAGES)
    assert len(proxy.requests) <= A_STAGE * len(STAGES), proxy.requests
    assert second.locks() == first.locks()
    for stage, upstream in (("make@a", 0), ("make@b", 0), ("join", 2)):
        proxy.requests.clear()
        assert run_stage(third, stage, mini.settings()) == 0
        assert len(proxy.requests) <= ALONE + (LOOK + upstream if upstream else 0), proxy.requests


def test_a_name_is_read_or_listed_by_one_request(s3: S3Server, proxy: S3Proxy, mini: Miniature) -> None:
    storage = Storage(f"{mini.store_uri}/place")
    storage.write("a/b", b"content")
    storage.write("ab", b"content")
    asked = {
        "read": lambda: storage.read("a/b") == b"content",
        "list": lambda: storage.list() == ["a/b", "ab"],
        "list of a folder": lambda: storage.list("a") == ["b"],
        "statuses": lambda: list(storage.statuses("a")) == ["b"],
        "page": lambda: storage.page("", after="a/b") == ["ab"],
        "nothing": lambda: storage.list("missing") == [],
    }
    for name, ask in asked.items():
        proxy.requests.clear()
        assert ask(), name
        assert len(proxy.requests) == 1, name
    storage.delete("a")
    assert storage.list() == ["ab"]
