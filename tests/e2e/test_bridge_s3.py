"""The bridge with runs and store on a real S3 server: the same code path as local folders."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kd_core.runtime.storage import Storage
from kd_ops.bridge.stage_run import run_stage
from kd_ops.lineage import provenance
from kd_ops.resolving.addresses import s3_revision
from kd_ops.runs.objects import Objects, object_name
from kd_ops.runs.store_check import check_store
from tests.helpers.miniature import STAGES, Miniature
from tests.helpers.s3_server import S3Server

pytestmark = pytest.mark.e2e


@pytest.fixture
def mini(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    mini = Miniature(tmp_path, s3.url(f"{tmp_path.name}/store"), s3.url(f"{tmp_path.name}/runs"))
    for name, value in mini.environment().items():
        monkeypatch.setenv(name, value)
    return mini


def test_of_many_conditional_puts_one_wins(mini: Miniature) -> None:
    storage = Storage(f"{mini.store_uri}/race")
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: storage.create("one", str(number).encode()), range(8)))
    assert sum(won) == 1
    assert storage.read("one") == str(won.index(True)).encode()
    assert not storage.create("one", b"late")
    check_store(mini.store_uri)


def test_what_one_machine_computes_another_reuses(mini: Miniature) -> None:
    first, second = mini.run("first"), mini.run("second")
    for stage in STAGES:
        assert run_stage(first, stage, mini.settings("one")) == 0
    assert first.storage.read("logs/make@a.log") == b"made a\n"
    for stage in STAGES:
        assert run_stage(second, stage, mini.settings("two")) == 0
    records = second.stages()
    assert [records[stage].cached for stage in STAGES] == [True] * len(STAGES)
    assert first.locks() == second.locks()
    (found,) = provenance.read(records["join"].outs["joined"], mini.settings())
    assert (found["run"], [use["run"] for use in found["reused_by"]]) == ("first", ["second"])
    third = mini.run("third", join={"separator": "+"})
    for stage in ("make@a", "make@b", "join"):
        assert run_stage(third, stage, mini.settings("three")) == 0, "inputs come from the bucket"


def test_rot_in_the_bucket_is_named_deleted_and_made_again(mini: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    """DVC itself pulls wrong bytes without a word, and its push never replaces them."""
    run, store = mini.run("first"), Storage(f"{mini.store_uri}/dvc")
    assert run_stage(run, "make@a", mini.settings("one")) == 0
    record = run.stage("make@a")
    assert record is not None
    file = object_name(Objects(mini.settings("one")).listing(record.outs["parts/a"])["number.txt"])
    store.write(file, b"rot")
    assert run_stage(run, "part@a", mini.settings("two")) == 65
    assert "was damaged and is deleted; run make@a again" in capsys.readouterr().err
    assert not store.exists(file)
    again = mini.run("again")
    for stage in ("make@a", "part@a"):
        assert run_stage(again, stage, mini.settings("two")) == 0
    assert store.read(file) == b"111"


def test_an_object_is_renewed_in_the_bucket(mini: Miniature) -> None:
    storage = Storage(f"{mini.store_uri}/young")
    storage.write("one", b"content")
    before = storage.status("one")
    time.sleep(1.1)  # S3 counts whole seconds
    assert storage.renew("one")
    after = storage.status("one")
    assert before is not None
    assert after is not None
    assert after.modified > before.modified
    assert (after.size, storage.read("one")) == (7, b"content")
    assert not storage.renew("none")


def test_unfinished_work_in_the_bucket_is_taken_up(mini: Miniature) -> None:
    run = mini.run("first", slow={"steps": 6, "seconds": 0.5})
    for stage in ("make@a", "make@b", "join"):
        assert run_stage(run, stage, mini.settings()) == 0
    process = mini.start(run, "slow")
    assert process.stderr is not None
    for line in process.stderr:
        if "step 1" in line:
            break
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert Storage(f"{run.uri}/state").list()
    assert run_stage(run, "slow", mini.settings("two")) == 0
    steps = [line for line in run.storage.read("logs/slow.log").decode().splitlines() if line.startswith("step")]
    assert steps == [f"step {number}" for number in range(6)]
    assert not Storage(f"{run.uri}/state").list()


def test_an_etag_revision_follows_the_content(mini: Miniature) -> None:
    storage = Storage(f"{mini.store_uri}/rows")
    storage.write("a.csv", b"one")
    before = s3_revision(f"{mini.store_uri}/rows")
    assert s3_revision(f"{mini.store_uri}/rows") == before
    storage.write("a.csv", b"two")
    assert s3_revision(f"{mini.store_uri}/rows") != before
    assert os.environ["AWS_ENDPOINT_URL"].startswith("http://127.0.0.1")
