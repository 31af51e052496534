"""`kd run` and `kd repro` from start to end: start the process, draw, close, and say what came out."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console

from kd_core.runtime.errors import ParamsError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.display.board import Board, StageView
from kd_ops.display.summary import cache_line, print_summary
from kd_ops.display.terminal import painter
from kd_ops.display.watch import Child, RunInterruptedError, watch
from kd_ops.launching import airflow_run
from kd_ops.runs.outs import Outs, read_document
from kd_ops.runs.results import copy_report, read_result, update_result
from kd_ops.runs.runs import Run
from kd_ops.stages.code_snapshot import stage_names

Way = Literal["airflow", "repro"]
AGAIN = "run the same command again: what is done is not computed twice, and unfinished work resumes"

_LOGGER = re.compile(r"\s+\[airflow\..*$")
"""What Airflow's log adds to a line."""
_STATUS = re.compile(r"-m (kd_ops[.\w]+) .*ended with status (\d+)")


def launch(
    way: Way,
    recipe: str | None,
    overrides: Sequence[str],
    revision: str | None,
    console: Console,
    settings: Settings,
    variants: Sequence[str] = (),
) -> int:
    """Run the recipe once; the exit status: that of the stage that failed, 130 or 143 after a signal, else 0.

    The run is resolved here, so that wrong params end it at once and relative paths are the user's; a scheduler that
    resolves it again finds it. Raises KDError if it cannot start.
    """
    from kd_ops.resolving.resolve import resolve

    began = time.monotonic()
    if way == "airflow" and recipe is not None and recipe.endswith((".yaml", ".yml")):
        raise ParamsError(f"--recipe {recipe}: Airflow has a DAG for each file in recipes/; `kd repro` runs any file")
    with console.status("resolving"):
        run = resolve(recipe, overrides, revision, settings=settings, variants=variants)
        board = Board(run, stage_names(run, settings), Storage(settings.store_uri))
    name = str(run.info()["recipe"])
    shown = " + ".join([name, *variants])
    console.print(f"[bold]kd-pipelines[/]  recipe [bold]{shown}[/]  run {run.id}", highlight=False)
    log = run.local_path(f"logs/{way}.log") or settings.home / "logs" / f"{run.id}.{way}.log"
    try:
        command = airflow_run.command(recipe or name, overrides, revision, run.id, variants)
        status = _work(way, command, board, log, console, settings)
        update_result(run, cpu_seconds=round(sum(os.times()[:4]), 3))
    except RunInterruptedError as stop:
        return _interrupted(stop, run, console, settings)
    if status:
        return _failed(status, board, log, console, settings)
    outs = Outs.of(run, settings)
    console.print(f"\n{cache_line(list(board.stages.values()), time.monotonic() - began)}", highlight=False)
    print_summary(console, read_document(outs, "report/summary.json"), read_result(run), copy_report(run, outs))
    return 0


def _work(way: Way, airflow: Sequence[str], board: Board, log: Path, console: Console, settings: Settings) -> int:
    """Start the processes one after another and draw; the exit status of the first that fails, else 0.

    `airflow`: the words that run the recipe's DAG.
    """
    if way == "airflow":
        with console.status("preparing Airflow's database"):
            airflow_run.migrate(settings)
        steps = [list(airflow)]
        starting = "starting Airflow"
    else:
        modules = (["kd_ops.launching.repro"], ["kd_ops.promotion.close", "--always"])
        steps = [[sys.executable, "-m", *words, "--run", board.run.uri] for words in modules]
        starting = "starting"
    for words in steps:
        child = Child(words, airflow_run.environment(settings), settings.project, log)
        if status := watch(child, board, painter(console), starting):
            return status
    return 0


def _failed(status: int, board: Board, log: Path, console: Console, settings: Settings) -> int:
    """Say which stage failed and why; its exit status."""
    failed = board.failed()
    console.print()
    if failed:
        status = failed[0].exit_code or status
        for view in failed:
            _explain_stage(view, board, console)
    else:
        status = _explain_step(status, log, console)
    console.print(f"all     {log}", highlight=False, soft_wrap=True)
    with console.status("recording the failed run"):
        _track(board.run, settings, interrupted=False)
    console.print(AGAIN)
    return status


def _explain_stage(view: StageView, board: Board, console: Console) -> None:
    place = f"stage {board.position(view.name)}/{len(board.stages)}"
    console.print(f"[bold red]{place} {view.name} failed with exit status {view.exit_code}[/]", highlight=False)
    lines = view.error.splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    said = lines[starts[-1] :] if starts else lines[-8:]
    for line in said:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"log     {board.run.uri}/logs/{view.name}.log", highlight=False, soft_wrap=True)


def _explain_step(status: int, log: Path, console: Console) -> int:
    """Explain a failure outside the stages (resolve, tracking, registration) from the log; its exit status."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    found = _STATUS.findall(text)
    step = ""
    if found:
        step, status = found[-1][0], int(found[-1][1])
    said = [_LOGGER.sub("", line[line.index("error: ") :]) for line in text.splitlines() if "error: " in line]
    console.print(f"[bold red]{step or 'the run'} failed with exit status {status}[/]", highlight=False)
    for line in said[-1:] or text.splitlines()[-8:]:
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    return status


def _interrupted(stop: RunInterruptedError, run: Run, console: Console, settings: Settings) -> int:
    console.print(f"\n[yellow]{stop}[/]; nothing is lost", highlight=False)
    with console.status("recording the stopped run"):
        _track(run, settings, interrupted=True)
    console.print(AGAIN)
    return 128 + stop.signum


def _track(run: Run, settings: Settings, interrupted: bool) -> None:
    """Record the run as it ended; a failure to do so is said in the log and does not hide what ended it."""
    words = [
        sys.executable,
        "-m",
        "kd_ops.tracking.track",
        "--run",
        run.uri,
        *(["--interrupted"] if interrupted else []),
    ]
    log = settings.home / "logs" / f"{run.id}.tracking.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        environment = airflow_run.environment(settings)
        subprocess.run(words, env=environment, cwd=settings.project, stdout=output, stderr=output, check=False)
