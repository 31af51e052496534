"""Stages of the miniature: run in this process, up to the one that matters, and what its slow one has done."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from kd_ops.bridge.stage_run import run_stage
from kd_ops.bridge.state import State
from kd_ops.runs.runs import Run
from tests.helpers.miniature import STAGES, Miniature

SLOW = {"slow": {"steps": 8, "seconds": 0.25}}


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


def nobody_works(mini: Miniature) -> bool:
    """Whether no process of the miniature is left, found by the environment that all of them have."""
    mark = f"MINIATURE_TRACE={mini.trace}".encode()

    def environment(process: Path) -> bytes:
        with suppress(OSError):
            return (process / "environ").read_bytes()
        return b""

    return not any(mark in environment(process) for process in Path("/proc").glob("[0-9]*"))


def finished(mini: Miniature, name: str = "first", **params: dict[str, object]) -> Run:
    """A run in which all is done."""
    run = mini.run(name, **params)
    for stage in STAGES:
        assert run_stage(run, stage, mini.settings()) == 0
    return run


def prepared_parts(mini: Miniature) -> Run:
    run = mini.run()
    for stage in ("make@a", "make@b"):
        assert run_stage(run, stage, mini.settings()) == 0
    return run


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


def compute(mini: Miniature, run: Run, *stages: str, machine: str = "one") -> list[bool]:
    """Run stages in this process; whether each was reused."""
    cached = []
    for stage in stages or STAGES:
        assert run_stage(run, stage, mini.settings(machine)) == 0
        record = run.stage(stage)
        assert record is not None
        assert record.status == "done"
        cached.append(record.cached)
    return cached


def list_machine(mini: Miniature) -> None:
    """Let `make` depend on the machine."""
    graph, dep = mini.project / "dvc.yaml", "    - code/make.json\n"
    graph.write_text(graph.read_text().replace(dep, f"{dep}    - machine.json\n"))
