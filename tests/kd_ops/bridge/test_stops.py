"""Stops and kills: signals are passed on, nothing goes on working, and the next try goes on where it was."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kd_ops.bridge.stage_run import run_stage
from tests.helpers.bridge_stages import assert_counted_once, log, nobody_works, prepared, wait_for
from tests.helpers.miniature import Miniature


def test_a_stop_during_the_imports_is_heard() -> None:
    done = subprocess.run([sys.executable, "-c", EARLY_STOP], capture_output=True, text=True, check=False)
    assert done.returncode == 143, done.stderr


EARLY_STOP = """\
import os, signal, sys
from kd_ops.bridge import __main__ as bridge
assert not {"fsspec", "pydantic", "yaml"} & set(sys.modules)
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "kd_ops.stages.graph":
            os.kill(os.getpid(), signal.SIGTERM)
sys.meta_path.insert(0, Finder())
sys.exit(bridge.main(["--run", "nowhere", "slow"]))
"""


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGKILL, -9), (signal.SIGHUP, 129)])
def test_a_stopped_repro_leaves_nothing_working(mini: Miniature, signum: int, status: int) -> None:
    run = prepared(mini)
    assert run_stage(run, "part@a", mini.settings()) == 0
    command = [sys.executable, "-m", "kd_ops.launching.repro", "--run", run.uri]
    process = subprocess.Popen(command, env=mini.environment(), cwd=mini.folder, stderr=subprocess.DEVNULL)
    wait_for(lambda: "step 1" in log(run))
    process.send_signal(signum)
    assert process.wait(timeout=60) == status
    wait_for(lambda: nobody_works(mini))
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
