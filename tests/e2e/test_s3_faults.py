"""What goes wrong with a real S3 server: it dies, refuses, lags; machines race. Nothing half is left or lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import md5
from pathlib import Path

import pytest

from kd_core.runtime.storage import Storage
from kd_ops.base.entry import ended
from kd_ops.bridge.stage_run import run_stage
from kd_ops.resolving import resolve
from kd_ops.runs.runs import Run
from tests.helpers.miniature import STAGES, Miniature
from tests.helpers.s3_proxy import Request, S3Proxy
from tests.helpers.s3_server import SECRET, S3Server

pytestmark = pytest.mark.e2e


@pytest.fixture
def mini(s3: S3Server, proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    """The miniature project over the proxy; a request that fails is tried again a few times only."""
    mini = Miniature(tmp_path, s3.url(f"{tmp_path.name}/store"), s3.url(f"{tmp_path.name}/runs"))
    own = {"AWS_ENDPOINT_URL": proxy.endpoint, "AWS_MAX_ATTEMPTS": "2"}
    for name, value in {**mini.environment(), **s3.environment, **own}.items():
        monkeypatch.setenv(name, value)
    return mini


def test_a_server_that_dies_in_the_middle_of_a_push(
    s3: S3Server, proxy: S3Proxy, mini: Miniature, tmp_path: Path
) -> None:
    run = mini.run("first")
    pushed: list[str] = []

    def dies(request: Request) -> None:
        if request.method == "PUT" and "/dvc/files/" in request.name:
            pushed.append(request.name)
            if len(pushed) == 2:
                s3.kill()
                raise ConnectionError

    proxy.before = dies
    status, errors = mini.bridge(run, "make@a")
    assert len(pushed) >= 2
    assert status == 75, errors
    assert "KD_STORE_URI" in errors
    assert "Traceback" not in errors
    proxy.before = lambda request: None
    s3.start()
    assert mini.bridge(run, "make@a") == (0, "made a\n")
    assert s3.half_objects(f"{tmp_path.name}/store") == []
    assert run_stage(run, "part@a", mini.settings("two")) == 0


def test_a_wrong_key_is_tried_again_and_not_told(mini: Miniature) -> None:
    run = mini.run("first")
    status, errors = mini.bridge(run, "make@a", AWS_SECRET_ACCESS_KEY="wrong-secret")
    assert status == 75
    assert "error: make@a" in errors
    assert "KD_STORE_URI" in errors
    assert "Traceback" not in errors
    assert "wrong-secret" not in errors
    assert SECRET not in errors


def test_a_run_with_a_wrong_key_does_not_start(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    monkeypatch.delenv("KD_PROJECT")
    assert resolve.main(["--recipe", "route"]) == 75
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert "KD_STORE_URI" in said


@pytest.mark.parametrize("place", ["KD_STORE_URI", "KD_RUNS_URI"])
def test_a_missing_bucket_is_named(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    monkeypatch.setenv(place, "s3://kd-nowhere/place")
    monkeypatch.delenv("KD_PROJECT")
    assert resolve.main(["--recipe", "route"]) == 64
    said = capsys.readouterr().err
    assert said.count("error: ") == 1
    assert "s3://kd-nowhere" in said
    assert place in said


def test_a_bucket_that_goes_missing_under_a_run_is_named(mini: Miniature) -> None:
    run = mini.run("first")
    gone = Run("s3://kd-nowhere/first")
    said: list[str] = []
    assert ended(lambda: gone.write_lock("make@a", {}), said.append) == 64
    assert "kd-nowhere" in said[0]
    status, errors = mini.bridge(run, "make@a", KD_STORE_URI="s3://kd-nowhere/store")
    assert status in (64, 65)
    assert "kd-nowhere" in errors
    assert "Traceback" not in errors


def test_lists_that_lag_change_nothing(proxy: S3Proxy, mini: Miniature) -> None:
    """AWS's lists are consistent; those of a copy in another region, or of a cache before it, are not."""
    proxy.lag = timedelta(hours=1)
    first, second = mini.run("first"), mini.run("second")
    for run, machine in ((first, "one"), (second, "two")):
        for stage in STAGES:
            assert run_stage(run, stage, mini.settings(machine)) == 0
    assert {name: first.lock(name) for name in STAGES} == {name: second.lock(name) for name in STAGES}
    assert all(record is not None and record.cached for record in map(second.stage, STAGES))


def test_two_machines_at_once_agree(s3: S3Server, mini: Miniature, tmp_path: Path) -> None:
    """Both compute the first stage at the same time, differently; from there on both have one truth."""
    runs = {name: mini.run(name) for name in ("one", "two")}
    meeting = tmp_path / "meeting"
    meeting.mkdir()

    def whole_run(machine: str) -> None:
        own = {"MINIATURE_NOISE": machine, "MINIATURE_MEET": str(meeting)}
        for stage in STAGES:
            status, errors = mini.bridge(runs[machine], stage, machine, **own)
            assert status == 0, errors

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(whole_run, runs))
    assert runs["one"].locks() == runs["two"].locks()
    assert set(runs["one"].locks()) == set(STAGES)
    keys = {record.key for run in runs.values() for record in run.stages().values()}
    entries = Storage(f"{mini.store_uri}/dvc/runs").list()
    assert sorted(f"{key[:2]}/{key}/{key}" for key in keys if key) == entries
    assert s3.half_objects(f"{tmp_path.name}/store") == []


def test_a_damaged_copy_of_this_machine_is_fetched_again(mini: Miniature) -> None:
    run = mini.run("first")
    assert run_stage(run, "make@a", mini.settings("one")) == 0
    for copy in mini.settings("one").cache_dir.rglob("*"):
        if copy.is_file() and copy.read_bytes() == b"111":
            copy.chmod(0o644)
            copy.write_bytes(b"rot")
    assert run_stage(run, "part@a", mini.settings("one")) == 0
    assert run.storage.read("logs/part@a.log") == b""
    lock = run.lock("part@a")
    assert lock is not None
    assert lock["outs"][0]["md5"] == md5(b"111!", usedforsecurity=False).hexdigest()
