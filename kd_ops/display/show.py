"""What `kd show` tells of a run: its stages, metrics, registered model and report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from kd_core.runtime.errors import ParamsError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.display.board import Board
from kd_ops.display.summary import print_summary
from kd_ops.display.terminal import finished_line
from kd_ops.resolving.plan import StagePlan
from kd_ops.runs.outs import Outs, read_document
from kd_ops.runs.results import read_result, report_path
from kd_ops.runs.runs import Run, StageRecord, list_runs
from kd_ops.stages.code_snapshot import stage_names


def find_run(name: str | None, settings: Settings) -> Run:
    """The run of that name, or the newest one. Raises ParamsError if there is none."""
    if name is None:
        runs = list_runs(settings)
        if not runs:
            raise ParamsError(f"no run below {settings.runs_uri} yet; `kd run` makes one")
        return runs[0]
    run = Run(name) if "/" in name else Run.named(name, settings)
    if not run.exists():
        raise ParamsError(f"no run {name!r} below {settings.runs_uri}")
    return run


def describe(run: Run, settings: Settings) -> dict[str, Any]:
    """The run as one JSON-able value: run, stages, metrics, model, report."""
    outs = Outs.of(run, settings)
    board = Board(run, stage_names(run, settings))
    board.poll()
    stages = {
        name: {"status": view.status, "cached": view.cached, "seconds": view.seconds}
        for name, view in board.stages.items()
    }
    documents = {name: read_document(outs, f"{name}/metrics.json") for name in ("evaluation", "measure")}
    return {
        "run": run.id,
        "stages": stages,
        "metrics": {"evaluation": documents["evaluation"], "measure": documents["measure"]},
        "model": _model(run, settings),
        "report": report_path(run) or None,
    }


def print_run(console: Console, run: Run, settings: Settings) -> None:
    """The run for a person: its stages, then the closing summary."""
    info = run.info()
    recipe = " + ".join([info.get("recipe", "?"), *info.get("variants", [])])
    console.print(f"[bold]run {run.id}[/]  recipe {recipe}  {info.get('created', '')}", highlight=False)
    board = Board(run, stage_names(run, settings), Storage(settings.store_uri))
    board.poll()
    for view in board.stages.values():
        if view.finished:
            console.print(finished_line(view), highlight=False)
        else:
            console.print(f"[dim]·[/] {view.name:<32} [dim]{view.status}[/]", highlight=False)
        if view.error:
            console.print(f"    {view.error.splitlines()[-1]}", style="red", markup=False, highlight=False)
    outs, result = Outs.of(run, settings), read_result(run)
    for line in orchestration(list(run.stages().values()), result.get("cpu_seconds")):
        console.print(line, highlight=False)
    if (spent := cost(run)) is not None:
        console.print(f"cost           {spent:.2f}, by price_per_hour in dags/profiles.yaml", highlight=False)
    result |= {"model": _model(run, settings)}
    print_summary(console, read_document(outs, "report/summary.json"), result, report_path(run))


def orchestration(stages: Sequence[StageRecord], spent: float | None) -> list[str]:
    """What the machinery cost, besides the stages' own work; as far as it was measured.

    :param spent: CPU-seconds of all processes of `kd run` or `kd repro`; None where a scheduler ran the stages, whose
        bridges alone are known then
    """
    bridges = [record.overhead_cpu_seconds for record in stages if record.overhead_cpu_seconds is not None]
    lines = [_cpu_line("bridges", sum(bridges), len(bridges))] if bridges else []
    if spent is not None and stages:
        commands = sum(record.command_cpu_seconds or 0.0 for record in stages)
        lines.append(_cpu_line("orchestration", spent - commands, len(stages)))
    return lines


def _cpu_line(what: str, seconds: float, stages: int) -> str:
    return f"{what:<14} {seconds:.1f} CPU-seconds, {seconds / stages:.2f} a stage, besides the stages' own work"


def cost(run: Run) -> float | None:
    """What the stages cost that ran in containers of a known price, in the user's currency; None where none did."""
    known = [record.cost for record in run.stages().values() if record.cost is not None]
    return sum(known) if known else None


def print_plan(console: Console, stages: Sequence[StagePlan]) -> None:
    """HIT or MISS for each stage, with what changed."""
    for stage in stages:
        mark = "[blue]=[/] HIT " if stage.hit else "[yellow]•[/] MISS"
        first, *more = stage.reasons or ("",)
        console.print(f"{mark} {stage.stage:<32} [dim]{escape(first)}[/]", highlight=False, soft_wrap=True)
        for reason in more:
            console.print(f"{'':<39} [dim]{escape(reason)}[/]", highlight=False, soft_wrap=True)
    misses = sum(not stage.hit for stage in stages)
    said = f"{misses} of {len(stages)} stages would be computed" if misses else "nothing to compute"
    console.print(f"\n{said}", highlight=False)


def _model(run: Run, settings: Settings) -> dict[str, Any] | None:
    """The registered version with the aliases that it has now; `deleted` if the registry has it no more."""
    from kd_ops.registry.registry import connect, version

    model = read_result(run).get("model")
    if not model:
        return None
    name, number = str(model["name"]), str(model["version"])
    try:
        aliases = list(version(connect(settings), name, number).aliases)
    except ParamsError:
        return {"name": name, "version": number, "aliases": [], "deleted": True}
    return {"name": name, "version": number, "aliases": aliases}
