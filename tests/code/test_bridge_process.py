"""The bridge and the stage's process: exit statuses, signals, kills, and work that is taken up again."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

from components.base import Component, Context
from components.base import run as run_component
from kd_core.runtime.errors import InvalidDataError, ParamsError, TryAgainError, outside_failure
from kd_core.runtime.progress import Progress
from kd_ops import pulse, state
from kd_ops.bridge import main
from kd_ops.graph import check_stage_name
from kd_ops.pulse import Pulse
from kd_ops.runs import Run
from kd_ops.stage_run import run_stage
from kd_ops.state import State
from kd_ops.transfer import StageData
from kd_ops.versions import check_versions
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


@pytest.mark.parametrize(("number", "said"), [("0.1", "instead of 0.1"), (None, "missing instead of 1.0")])
def test_a_worker_with_other_libraries_computes_nothing_but_may_reuse(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: str | None, said: str
) -> None:
    """The key says what the run was started with; another version's result must not be found under it."""
    graph, name = mini.project / "dvc.yaml", "pandas" if number else "no-such-library"
    graph.write_text(graph.read_text().replace("    - sizes.${item.item}\n", "    - resolved.versions.data\n"))
    wanted = number or "1.0"
    run, other = (mini.run(each, versions={"data": {name: wanted}}) for each in ("first", "second"))
    assert run_stage(run, "make@a", mini.settings()) == 75
    errors = capsys.readouterr().err
    assert f"this worker has {name}" in errors
    assert said in errors
    with monkeypatch.context() as upgraded:
        upgraded.setattr("kd_ops.versions.release", lambda _: wanted)
        assert run_stage(run, "make@a", mini.settings()) == 0
    assert run_stage(other, "make@a", mini.settings("two")) == 0


def test_a_build_of_a_release_is_that_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_ops.versions.version", lambda _: "2.13.0+cpu")
    check_versions({"resolved.versions.training": {"torch": "2.13.0"}, "student": {"torch": "1"}})
    with pytest.raises(TryAgainError, match=r"torch 2\.13\.0 instead of 2\.12\.0"):
        check_versions({"resolved.versions.training": {"torch": "2.12.0"}})


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

    run = mini.run()
    monkeypatch.setattr("kd_ops.workspace.place", full)
    assert run_stage(run, "make@a", mini.settings()) == 75
    assert "free space" in capsys.readouterr().err


@contextmanager
def disk(folder: Path, options: str) -> Iterator[Path]:
    """A file system of its own; chmod would not stop root, and a made-up error is not what libraries raise."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs privileges that this user does not have")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


DISKS = [("size=64k", "free space"), ("ro", "writable")]


@pytest.mark.parametrize(("options", "advice"), DISKS)
@pytest.mark.parametrize("library", ["safetensors", "pyarrow", "open"])
def test_a_component_on_a_full_or_read_only_disk_ends_with_75(
    tmp_path: Path, library: str, options: str, advice: str
) -> None:
    with disk(tmp_path / "disk", options) as folder:
        (tmp_path / "params.yaml").write_text("{}\n")
        command = [sys.executable, "-c", WRITER, library, str(folder / "file")]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 75, done.stderr
    assert advice in done.stderr
    assert "Traceback" not in done.stderr


WRITER = """\
import sys
import numpy
from components.base import Component, run
library, path = sys.argv[1:]
values = numpy.random.default_rng(0).random(100_000)
def write(context):
    if library == "safetensors":
        from safetensors.numpy import save_file
        save_file({"values": values}, path)
    elif library == "pyarrow":
        import pyarrow, pyarrow.parquet
        pyarrow.parquet.write_table(pyarrow.table({"values": values}), path)
    else:
        open(path, "wb").write(values.tobytes())
run(Component("writer"), write, [])
"""


@pytest.mark.parametrize(("options", "advice"), DISKS)
def test_a_store_on_a_full_or_read_only_disk_is_75(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: str, advice: str
) -> None:
    with disk(tmp_path / "store", "size=64k") as folder:
        mini = Miniature(tmp_path / "mini", store_uri=str(folder))
        run = mini.run(sizes={"a": "x" * 50_000, "b": 1})
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
        assert run_stage(run, "make@a", mini.settings()) == 75
    errors = capsys.readouterr().err
    assert advice in errors
    assert "Traceback" not in errors


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's for GPUs."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "file"), 75),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 75),
        (EndpointConnectionError(endpoint_url="http://store"), 75),
        (ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"), 75),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"), 137),
        (OutOfMemoryError("CUDA out of memory"), 137),
        (MemoryError(), 137),
        (InvalidDataError("row 3"), 65),
    ],
)
def test_what_is_not_the_components_fault_has_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(context: Context) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("{}\n")
    with pytest.raises(SystemExit) as caught:
        run_component(Component("fails"), fail, [])
    assert caught.value.code == status


def test_a_bug_is_not_taken_for_a_failure_outside() -> None:
    assert outside_failure(FileNotFoundError(errno.ENOENT, "No such file or directory")) is None
    own = ValueError("of its own")
    own.__context__ = PermissionError(errno.EACCES, "Permission denied")
    assert outside_failure(own) is not None, "what went wrong while a failure outside was handled"
    own.__suppress_context__ = True
    assert outside_failure(own) is None


def test_a_last_upload_that_fails_does_not_discard_the_stage(tmp_path: Path) -> None:
    class Away(Run):
        def local_path(self, name: str) -> Path | None:
            return None

    run = Away(str(tmp_path / "run"))

    def refuse(name: str, data: bytes) -> None:
        raise EndpointConnectionError(endpoint_url="http://store")

    with Pulse(run, "slow", tmp_path, State(run, str(tmp_path / "store"), "key")) as pulse:
        pulse.log.write_text("done")
        run.storage.write = refuse  # type: ignore[method-assign]


@pytest.mark.parametrize("local", [True, False])
def test_a_schedulers_log_gets_a_line_on_progress_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], local: bool
) -> None:
    monkeypatch.setattr(pulse, "INTERVAL_S", 0.01)
    run = Run(str(tmp_path / "run"))
    if not local:
        monkeypatch.setattr(Run, "local_path", lambda self, name: None)
    beats: list[int] = []
    monkeypatch.setattr(State, "beat", lambda self: beats.append(len(beats)))
    said = ""

    def has_said(words: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return words in said

    with Pulse(run, "pretrain", tmp_path, State(run, str(tmp_path / "store"), "key")) as running:
        wait_for(lambda: has_said("pretrain: at work for "))
        progress = Progress("pretrain", running.progress)
        progress.update("epoch 1/4", 5, 20, loss=0.25)
        progress.update("epoch 2/4", 20, 20, loss=0.125)
        wait_for(lambda: has_said("  epoch 2/4  100%  20/20 rows · "))
    assert said.splitlines()[-1].endswith("· loss 0.125")
    assert "epoch 1/4" not in said.splitlines()[-1]
    assert len(said.splitlines()) <= len(beats) / 3, "a line every third beat"


def test_a_stop_during_the_imports_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY_STOP], capture_output=True, text=True, check=False)
    assert done.returncode == 143, done.stderr


EARLY_STOP = """\
import os, signal, sys
from kd_ops import bridge
assert not {"fsspec", "pydantic", "yaml"} & set(sys.modules)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "kd_ops.graph":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder())
sys.exit(bridge.main(["--run", "nowhere", "slow"]))
"""


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGKILL, -9), (signal.SIGHUP, 129)])
def test_a_stopped_repro_leaves_nothing_working(mini: Miniature, signum: int, status: int) -> None:
    run = prepared(mini)
    assert run_stage(run, "part@a", mini.settings()) == 0
    command = [sys.executable, "-m", "kd_ops.repro", "--run", run.uri]
    process = subprocess.Popen(command, env=mini.environment(), cwd=mini.folder, stderr=subprocess.DEVNULL)
    wait_for(lambda: "step 1" in log(run))
    process.send_signal(signum)
    assert process.wait(timeout=60) == status
    time.sleep(SLOW["slow"]["steps"] * SLOW["slow"]["seconds"] + 1)
    assert not mini.trace.exists(), "no orphan goes on working"


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


def test_a_second_try_leaves_the_living_first_one_alone(mini: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    """As a scheduler starts it that has lost sight of the first: one checkpoint, one log, one writer."""
    run = prepared(mini)
    process = mini.start(run, "slow")
    wait_for(lambda: "step 1" in log(run))
    assert run_stage(run, "slow", mini.settings("two")) == 75
    assert f"still at work: process {process.pid};" in capsys.readouterr().err
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert_counted_once(run, mini)


def test_a_first_try_elsewhere_is_waited_for_until_it_gives_no_more_signs(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(state, "_place", lambda: "another machine")
        State(mini.run(), mini.store_uri, "key").open()
    second = State(mini.run(), mini.store_uri, "key")
    with pytest.raises(TryAgainError, match="another machine"):
        second.open()
    monkeypatch.setattr(state, "BEAT_LIMIT_S", 0.0)
    second.open()
    second.open()


def test_work_that_fails_may_be_taken_over_at_once(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the command ended well and its outputs could not be brought away; till then signs of life go on."""
    beating: list[bool] = []

    def fail(self: StageData) -> None:
        beating.append(any(isinstance(thread, Pulse) for thread in threading.enumerate()))
        raise TryAgainError("the store is full")

    run = prepared(mini)
    with monkeypatch.context() as full:
        full.setattr(StageData, "push", fail)
        assert run_stage(run, "slow", mini.settings()) == 75
    assert beating == [True]
    monkeypatch.setattr(state, "_place", lambda: "another machine")
    assert run_stage(run, "slow", mini.settings("two")) == 0
    assert_counted_once(run, mini)


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
