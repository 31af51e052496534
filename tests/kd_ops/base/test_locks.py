"""Locks of one machine: one holder, names of their own, and no holder once a process is dead."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import Timeout

from kd_ops.base.locks import exclusive
from kd_ops.base.settings import Settings

HOLDER = """\
import sys, time
from pathlib import Path
from kd_ops.base.locks import exclusive
from kd_ops.base.settings import Settings
with exclusive(Settings(home=Path(sys.argv[1])), "model", "kd-route"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Timeout):
            exclusive(settings, "model", "kd-route").acquire(timeout=0.1)
        holder.kill()
        holder.wait()
        with exclusive(settings, "model", "kd-route").acquire(timeout=10):
            pass


@pytest.mark.parametrize("name", ["mlflow", "airflow-database", "model"])
def test_a_model_may_have_any_name(tmp_path: Path, name: str) -> None:
    """Registering holds the model's lock while it connects to MLflow, which has a lock of its own."""
    settings = Settings(home=tmp_path)
    with exclusive(settings, "model", name), exclusive(settings, name):
        pass


def test_one_thread_at_a_time_and_never_the_same_one_twice(tmp_path: Path) -> None:
    settings, inside, most = Settings(home=tmp_path), [0], [0]

    def work() -> None:
        with exclusive(settings, "model", "kd-route"):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    with exclusive(settings, "one"), pytest.raises(RuntimeError, match="already held"):
        exclusive(settings, "one").acquire()
