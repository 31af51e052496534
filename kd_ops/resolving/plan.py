"""What a run would compute and what it would reuse, and why; nothing is run.

A stage is compared with the last run of the same recipe that has a lock fragment for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_ops.base.settings import Settings
from kd_ops.resolving.merge import merged_params, recipe_path
from kd_ops.resolving.resolve import resolved_document
from kd_ops.runs.objects import Objects, RunCache
from kd_ops.runs.runs import Run, list_runs
from kd_ops.stages.code_snapshot import project_code
from kd_ops.stages.graph import Graph, Stage
from kd_ops.stages.keys import Fragment, code_hashes, compute, out_hashes, read_params
from kd_ops.stages.machine import MACHINE, write_machine
from kd_ops.stages.workspace import workspace

_SHOWN = 60


@dataclass(frozen=True)
class StagePlan:
    """One stage: HIT, or MISS with the reasons."""

    stage: str
    hit: bool
    reasons: tuple[str, ...] = ()


def plan(
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    revision: str | None = None,
    settings: Settings | None = None,
    variants: Sequence[str] = (),
) -> list[StagePlan]:
    """The stages in topological order, for the words that would start a run."""
    settings = settings or Settings()
    path = recipe_path(recipe, settings.project)
    params = merged_params(settings.project, path, overrides, revision, variants)
    runs = [run for run in list_runs(settings) if run.info().get("recipe") == params.recipe]
    return plan_document(resolved_document(params, settings, path, code=None), runs, settings)


def plan_document(document: bytes, runs: Sequence[Run], settings: Settings) -> list[StagePlan]:
    """The stages for a resolved params.yaml and the code of now; `runs` are the recipe's earlier ones, newest first."""
    with workspace(settings, document, project_code(settings)) as folder:
        planner = _Planner(Graph.load(folder), folder, runs, settings)
        return [planner.stage(name) for name in planner.graph.stages]


class _Planner:
    """Goes through the stages, keeping the lock fragments of those that are reused."""

    def __init__(self, graph: Graph, folder: Path, runs: Sequence[Run], settings: Settings) -> None:
        self.graph = graph
        self._folder, self._runs = folder, runs
        self._objects, self._cache = Objects(settings), RunCache(settings)
        self._locks: dict[str, Fragment] = {}

    def stage(self, name: str) -> StagePlan:
        """HIT or MISS of the next stage."""
        if MACHINE in self.graph[name].deps:
            write_machine(self._folder)
        recomputed = [stage for stage in self.graph.upstream(name) if stage not in self._locks]
        reasons = [f"stage {stage} will be computed" for stage in recomputed]
        fragment: Fragment | None = None
        if not recomputed:
            key = compute(self.graph, name, self._folder, self._locks, self._objects)
            entry = self._cache.entry(key.key)
            if entry is not None and self._objects.lacking(out_hashes(entry).values()) is not None:
                self._locks[name] = entry
                return StagePlan(name, hit=True)
            fragment = key.fragment
            reasons += ["its outputs are no longer in the store"] if entry is not None else []
        found = [*reasons, *self._differences(self.graph[name], fragment)]
        return StagePlan(name, hit=False, reasons=tuple(found) or ("its run-cache entry is no longer in the store",))

    def _differences(self, stage: Stage, fragment: Fragment | None) -> list[str]:
        """What differs from the last run; inputs are compared only where `fragment` knows them."""
        run = next((run for run in self._runs if run.lock(stage.name)), None)
        before = run.lock(stage.name) if run is not None else None
        if run is None or before is None:
            return ["never computed before in this recipe"]
        changes = [] if before["cmd"] == stage.cmd else ["its command changed"]
        if list(out_hashes(before)) != list(stage.outs):
            changes.append("its outputs are declared differently")
        params = before.get("params", {}).get("params.yaml", {})
        changes += _param_changes(params, read_params(self._folder, stage) if stage.params else {})
        changes += _file_changes(_code(run, stage.name), code_hashes(stage, self._folder))
        return changes + self._input_changes(stage, before, fragment)

    def _input_changes(self, stage: Stage, before: Fragment, fragment: Fragment | None) -> list[str]:
        if fragment is None:
            return []
        earlier = {dep["path"]: dep["md5"] for dep in before.get("deps", [])}
        owners = {need.dep: need.stage for need in self.graph.needs(stage.name)}
        now = {dep["path"]: dep["md5"] for dep in fragment["deps"] if dep["path"] in owners}
        return [f"input {path} changed (from {owners[path]})" for path, md5 in now.items() if earlier.get(path) != md5]


def _param_changes(before: Any, now: Any, key: str = "") -> list[str]:
    """`key: old → new` for every leaf that differs."""
    if not (isinstance(before, dict) and isinstance(now, dict)):
        return [] if before == now else [f"params {key}: {_short(before)} → {_short(now)}"]
    changes = []
    for name in [*before, *(name for name in now if name not in before)]:
        path = f"{key}.{name}" if key else str(name)
        if name not in now:
            changes.append(f"params {path}: {_short(before[name])} → removed")
        elif name not in before:
            changes.append(f"params {path}: new, {_short(now[name])}")
        else:
            changes += _param_changes(before[name], now[name], path)
    return changes


def _code(run: Run, stage: str) -> dict[str, str]:
    """The project's files that the stage last ran with in this run, which may be one of an older build."""
    record = run.stage(stage)
    return (record.code if record else {}) or run.read_json(f"code/{stage}.json") or {}


def _file_changes(before: dict[str, str], now: dict[str, str]) -> list[str]:
    words = [(path, "changed" if path in before else "is new") for path in now if before.get(path) != now[path]]
    return [f"{path} {word}" for path, word in [*words, *((path, "was removed") for path in before if path not in now)]]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
