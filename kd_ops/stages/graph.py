"""The stages of dvc.yaml for given params: their order, and which stage owes what another reads.

DVC's own parser fills in matrix, foreach and `${}`; nothing of the pipeline is written down a second time.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any

from kd_core.runtime.errors import ParamsError
from kd_core.runtime.files import to_json
from kd_core.runtime.names import check_name
from kd_ops.base.documents import from_yaml
from kd_ops.runs.runs import Run

KEPT = "graph.json"
"""The file of a run with its stages."""


@dataclass(frozen=True)
class Stage:
    """One stage, matrix and params filled in. Paths are relative to the project's folder."""

    name: str
    """As DVC addresses it: `teach@minilm_l6`."""
    cmd: str
    deps: tuple[str, ...]
    params: tuple[str, ...]
    """Dotted keys of params.yaml."""
    outs: tuple[str, ...]
    """Outputs, metrics and plots."""


@dataclass(frozen=True)
class Need:
    """A dependency, or the part of it, that another stage writes."""

    dep: str
    stage: str
    out: str

    @property
    def path(self) -> str:
        """What has to be there: the narrower of dependency and output."""
        return max(self.dep, self.out, key=lambda path: len(PurePosixPath(path).parts))


class Graph:
    """All stages in topological order."""

    def __init__(self, stages: dict[str, Stage]) -> None:
        self._outs = {out: stage.name for stage in stages.values() for out in stage.outs}
        needs = {name: self._needs(stage) for name, stage in stages.items()}
        try:
            order = TopologicalSorter({n: sorted({need.stage for need in needs[n]}) for n in stages}).static_order()
            self.stages = {name: stages[name] for name in order}
        except CycleError as error:
            raise ParamsError(
                f"dvc.yaml: stages depend on each other in a circle: {' → '.join(error.args[1])}"
            ) from None
        self._all_needs = needs

    @classmethod
    def load(cls, folder: Path) -> Graph:
        """Read dvc.yaml and params.yaml of `folder`. Raises ParamsError naming the stage and what is wrong."""
        from dvc.exceptions import DvcException
        from dvc.fs import LocalFileSystem
        from dvc.parsing import DataResolver

        document = from_yaml((folder / "dvc.yaml").read_bytes())
        try:
            repo = SimpleNamespace(fs=LocalFileSystem(), config={})
            definitions = DataResolver(repo, str(folder), document).resolve()["stages"]
        except DvcException as error:
            raise ParamsError(f"dvc.yaml does not fit params.yaml: {error}") from None
        return cls({name: _stage(name, definition) for name, definition in definitions.items()})

    @classmethod
    def of_run(cls, run: Run, folder: Path) -> Graph:
        """The run's stages as `resolve` kept them, which takes no import of DVC; else as `load`, from `folder`."""
        kept = run.read_json(KEPT)
        if kept is None:
            return cls.load(folder)
        return cls.from_document(kept)

    @classmethod
    def from_document(cls, kept: dict[str, Any]) -> Graph:
        """The graph that `document` described."""
        return cls({name: Stage(**{key: _frozen(value) for key, value in kept[name].items()}) for name in kept})

    def document(self) -> dict[str, Any]:
        """The stages as JSON values."""
        return {name: asdict(stage) for name, stage in self.stages.items()}

    def keep(self, run: Run) -> None:
        """Keep the stages with the run: its params.yaml and its dvc.yaml never change."""
        run.storage.write(KEPT, to_json(self.document()))

    def __getitem__(self, name: str) -> Stage:
        if name not in self.stages:
            raise ParamsError(f"no stage {name!r}; there are {', '.join(self.stages)}")
        return self.stages[name]

    def needs(self, name: str) -> list[Need]:
        """What the stage reads of other stages' outputs."""
        return self._all_needs[name]

    def upstream(self, name: str) -> list[str]:
        """The stages whose outputs the stage reads, in topological order."""
        wanted = {need.stage for need in self._all_needs[name]}
        return [stage for stage in self.stages if stage in wanted]

    def _needs(self, stage: Stage) -> list[Need]:
        return [
            Need(dep, owner, out)
            for dep in stage.deps
            for out, owner in self._outs.items()
            if owner != stage.name and (_inside(dep, out) or _inside(out, dep))
        ]


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def check_stage_name(name: str) -> str:
    """`name` if it is a stage's name or `stage@item`. Raises ParamsError: it becomes part of paths and commands."""
    for part in name.split("@", 1):
        check_name(part, "stage")
    return name


def _inside(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def _stage(name: str, definition: dict[str, Any]) -> Stage:
    check_stage_name(name)
    cmd = definition.get("cmd")
    if not isinstance(cmd, str):
        raise ParamsError(f"dvc.yaml: {name}: cmd must be one line of words")
    listed = [*definition.get("outs", []), *definition.get("metrics", []), *definition.get("plots", [])]
    params = definition.get("params", [])
    if not all(isinstance(key, str) for key in params):
        raise ParamsError(f"dvc.yaml: {name}: params must be keys of params.yaml")
    return Stage(
        name=name,
        cmd=cmd,
        deps=tuple(sorted(map(str, definition.get("deps", [])))),
        params=tuple(sorted(params)),
        outs=tuple(sorted(_out(name, item) for item in listed)),
    )


def _out(stage: str, item: str | dict[str, dict[str, Any]]) -> str:
    if isinstance(item, str):
        return item
    path, flags = next(iter(item.items()))
    if flags.get("cache") is False or flags.get("persist"):
        raise ParamsError(f"dvc.yaml: {stage}: {path}: `cache: false` and `persist` keep a stage out of the run-cache")
    return path
