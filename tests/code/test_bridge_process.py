"""The bridge and the stage's process: exit statuses, signals, kills, and work that is taken up again."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kd_core.runtime.errors import ParamsError
from kd_ops.bridge import main, run_stage
from kd_ops.graph import check_stage_name
from kd_ops.runs import Run
from kd_ops.state import State
from tests.miniature import Miniature

SLOW = {"slow": {"steps": 8, "seconds": 0.25}}


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    mini = Miniature(tmp_path)
    for name, value in mini.environment().items():
        monkeypatch.setenv(name, value)
    return mini


def prepared(mini: Miniature, name: str = "first") -> Run:
    """A run in which all is done but the slow stage."""
    run = mini.run(name, **SLOW)
    for stage in ("make@a", "make@b", "join"):
        assert run_stage(run, stage, mini.settings()) == 0
    return run


def log(run: Run) -> str:
    path = Path(run.uri) / "logs/slow.log"
    return path.read_text() if path.is_file() else ""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("status", [1, 65, 137])
def test_the_commands_status_is_the_bridges(mini: Miniature, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    run = prepared_parts(mini)
    monkeypatch.setenv("MINIATURE_STATUS", str(status))
    assert run_stage(run, "join", mini.settings()) == status
    record = run.stage("join")
    assert record is not None
    assert (record.status, record.exit_code, record.tries) == ("failed", status, 1)
    assert "the reason for it" in (record.error or "")
    assert run.lock("join") is None


def prepared_parts(mini: Miniature) -> Run:
    run = mini.run()
    for stage in ("make@a", "make@b"):
        assert run_stage(run, stage, mini.settings()) == 0
    return run


def test_a_missing_upstream_is_75_and_names_the_stage_that_owes_it(
    mini: Miniature, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mini.run()
    assert run_stage(run, "make@a", mini.settings()) == 0
    assert run_stage(run, "join", mini.settings()) == 75
    assert "stage make@b owes it" in capsys.readouterr().err
    assert run.stage("make@b") is None, "nothing upstream is computed"


def test_upstream_data_lost_from_the_store_is_75(mini: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    run = prepared_parts(mini)
    shutil.rmtree(Path(mini.store_uri) / "dvc/files")
    assert run_stage(run, "join", mini.settings("two")) == 75
    assert "make@a" in capsys.readouterr().err


def test_a_missing_output_is_70(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared_parts(mini)
    monkeypatch.setenv("MINIATURE_FORGET", "1")
    assert run_stage(run, "join", mini.settings()) == 70
    assert "did not write joined" in capsys.readouterr().err


def test_a_stage_that_writes_into_its_inputs_fails_and_spoils_no_cache(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared_parts(mini)
    monkeypatch.setenv("MINIATURE_SPOIL", "1")
    assert run_stage(run, "join", mini.settings()) == 1
    assert "changed its input parts/a/number.txt" in capsys.readouterr().err
    monkeypatch.delenv("MINIATURE_SPOIL")
    assert run_stage(run, "join", mini.settings()) == 0
    assert b"spoilt" not in b"".join(path.read_bytes() for path in Path(mini.store_uri).rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["a; echo x", "../x", "Upper", "make@a; echo x", "make@../x", "make@A", "a@b@c", ""])
def test_a_hostile_stage_name_is_refused_before_anything_is_written(mini: Miniature, name: str) -> None:
    run = mini.run()
    before = sorted(mini.folder.rglob("*"))
    with pytest.raises(ParamsError):
        check_stage_name(name)
    assert main(["--run", run.uri, name]) == 64
    assert sorted(mini.folder.rglob("*")) == before


def test_an_unknown_stage_and_a_run_without_params_are_64(mini: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_stage(mini.run(), "nosuch", mini.settings()) == 64
    assert "there are make@a" in capsys.readouterr().err
    assert run_stage(Run(f"{mini.runs_uri}/never"), "join", mini.settings()) == 64


def test_a_full_disk_is_75_and_says_so(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("kd_ops.workspace.shutil.copyfile", full)
    assert run_stage(mini.run(), "make@a", mini.settings()) == 75
    assert "free space" in capsys.readouterr().err


def test_workspaces_are_removed_also_those_of_the_dead(mini: Miniature) -> None:
    run = prepared(mini)
    work = mini.settings().home / "work"
    assert list(work.iterdir()) == []
    process = mini.start(run, "slow")
    wait_for(lambda: "step 0" in log(run))
    process.kill()
    process.communicate()
    assert list(work.iterdir())
    assert run_stage(run, "make@a", mini.settings()) == 0
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_passed_on_waited_for_and_the_next_try_goes_on(mini: Miniature, signum: int) -> None:
    run = prepared(mini)
    process = mini.start(run, "slow")
    wait_for(lambda: "step 1" in log(run))
    process.send_signal(signum)
    process.communicate(timeout=60)
    assert process.returncode == 143
    record = run.stage("slow")
    assert record is not None
    assert record.status == "failed"
    assert run_stage(run, "slow", mini.settings("two")) == 0
    assert_counted_once(run, mini)
    again = run.stage("slow")
    assert again is not None
    assert again.tries == 2


def assert_counted_once(run: Run, mini: Miniature, *others: Run) -> None:
    """Eight steps in all, none done twice, and the result of an undisturbed run."""
    lines = [line for each in (*others, run) for line in log(each).splitlines() if line.startswith("step")]
    assert lines == [f"step {number}" for number in range(8)]
    record = run.stage("slow")
    assert record is not None
    md5 = record.outs["slow/steps.txt"]
    content = Path(mini.store_uri) / "dvc/files/md5" / md5[:2] / md5[2:]
    assert content.read_text() == "0 1 2 3 4 5 6 7"
    assert not Path(State(run, mini.store_uri, str(record.key)).url).exists()


def test_a_killed_bridge_takes_its_command_along_and_another_run_takes_over(mini: Miniature) -> None:
    first = prepared(mini)
    process = mini.start(first, "slow")
    wait_for(lambda: "step 2" in log(first))
    process.kill()
    process.communicate()
    time.sleep(SLOW["slow"]["steps"] * SLOW["slow"]["seconds"] + 1)
    assert not mini.trace.exists(), "no orphan goes on working"
    second = prepared(mini, "second")
    assert run_stage(second, "slow", mini.settings("two")) == 0
    done = mini.trace.read_text()
    assert done == f"finished from {second.uri}\n"
    assert "step 0" not in log(second)
    record = second.stage("slow")
    assert record is not None
    assert not list((Path(mini.store_uri) / "state").rglob("*.json")), "nothing unfinished is left behind"


def test_a_living_owners_work_is_left_alone(mini: Miniature) -> None:
    first, second = mini.run("first"), mini.run("second")
    owner = State(first, mini.store_uri, "key")
    owner.open()
    Path(owner.url).mkdir(parents=True)
    (Path(owner.url) / "done").write_text("0 1")
    other = State(second, mini.store_uri, "key")
    assert other.open() is None
    other.remove()
    assert (Path(owner.url) / "done").read_text() == "0 1"
    owner.release()
    assert State(second, mini.store_uri, "key").open() == owner.url


def can_unshare() -> bool:
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "-p", "-f", "--mount-proc", "true"]
    return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def test_as_pid_1_a_stop_is_heard_and_the_next_try_goes_on(mini: Miniature) -> None:
    """A container's first process ignores signals that it does not handle; DVC's own would go on for ever."""
    if not can_unshare():
        pytest.skip("`unshare -p` needs privileges that this user does not have")
    run = prepared(mini)
    command = ["unshare", "-p", "-f", "--mount-proc", "--kill-child", *mini.command(run, "slow")]
    process = subprocess.Popen(command, env=mini.environment(), cwd=mini.folder, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: "step 1" in log(run))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    finally:
        process.kill()
    second = prepared(mini, "second")
    assert run_stage(second, "slow", mini.settings("two")) == 0
    assert_counted_once(second, mini, run)
