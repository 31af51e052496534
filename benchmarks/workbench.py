"""Runs stages of dvc.yaml in this process, each once for equal inputs; no DVC, no Airflow, the components' own code.

A stage's key is made of what dvc.yaml lists for it: command, params, code, and the content of what other stages wrote.
What was computed under a key is kept in `cache/KEY/` and never again computed, whichever variant, seed or call asks
for it. A killed stage leaves its checkpoint in `state/KEY/` and goes on from there. Contents of the cache may be thrown
away: their hashes stay, and are enough until a stage that has not run asks for the content.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.progress import Board
from components.base import Context
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import KDError
from kd_ops.base.documents import from_yaml
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.resolving.merge import merged_params
from kd_ops.resolving.resolve import resolved_document
from kd_ops.stages import inputs
from kd_ops.stages.closures import is_code_list
from kd_ops.stages.code_snapshot import Code, project_code
from kd_ops.stages.graph import Graph, Stage
from kd_ops.stages.keys import listed_params


@dataclass(frozen=True)
class Record:
    """A stage that was computed."""

    stage: str
    seconds: float
    outs: Mapping[str, str]
    """Path → hash of the content."""


class Workbench:
    """A work folder: the cache of stages, the score store, unfinished work."""

    def __init__(self, folder: Path, board: Board) -> None:
        self.folder, self.board = folder.resolve(), board
        self.settings = Settings(project=PROJECT, home=self.folder)
        self.computed: list[str] = []
        """Stages that were computed, not found."""
        self._runs: dict[bytes, Run] = {}
        self.code: Code = project_code(self.settings)

    def run(self, recipe: Path, overrides: Sequence[str], variants: Sequence[str], targets: Sequence[str]) -> Run:
        """The stages named in `targets` (before any `@`), and all that they read, for a recipe's params."""
        params = merged_params(PROJECT, recipe, overrides, None, variants)
        document = resolved_document(params, self.settings, recipe, code=None)
        if document not in self._runs:
            self._runs[document] = Run(self, document)
        self._runs[document].make(targets)
        return self._runs[document]

    def code_of(self, stage: Stage) -> list[str]:
        """The digests of the code that a stage runs."""
        return [self.code[dep].decode() for dep in stage.deps if is_code_list(dep)]

    def find(self, key: str) -> Record | None:
        """What was computed under `key`."""
        try:
            return Record(**json.loads((self.folder / "cache" / key / "record.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None

    def content(self, key: str, out: str) -> Path:
        """Where an output's content is, if it has not been thrown away."""
        return self.folder / "cache" / key / "outs" / out

    def discard(self, out: str) -> None:
        """Throw away the content of all outputs at or below the path `out`; their hashes stay."""
        for found in (self.folder / "cache").glob(f"*/outs/{out}"):
            shutil.rmtree(found)


class Run:
    """The stages for one params.yaml."""

    def __init__(self, bench: Workbench, document: bytes) -> None:
        self.params: dict[str, Any] = from_yaml(document)
        self._bench, self._document = bench, document
        with self._scratch() as folder:
            shutil.copy(PROJECT / "dvc.yaml", folder)
            self.graph = Graph.load(folder)
            self._values = {name: listed_params(self.params, stage) for name, stage in self.graph.stages.items()}
        self._keys: dict[str, str] = {}
        self.records: dict[str, Record] = {}
        """By stage, of those that were asked for."""

    def make(self, targets: Sequence[str]) -> None:
        """Compute the stages named in `targets` and those that they need, unless they have been."""
        wanted = {name for name in self.graph.stages if name.partition("@")[0] in targets}
        for name in reversed(self.graph.stages):
            if name in wanted:
                wanted |= set(self.graph.upstream(name))
        for name in [name for name in self.graph.stages if name in wanted and name not in self.records]:
            key = self._keys[name] = self._key(self.graph[name])
            self.records[name] = self._bench.find(key) or self._compute(name)

    def hash(self, out: str) -> str:
        """Hash of an output's content."""
        return self.records[self._owner(out)].outs[out]

    def path(self, out: str) -> Path:
        """An output's content; computed again if it was thrown away. Raises KDError if it then differs."""
        owner = self._owner(out)
        path = self._bench.content(self._keys[owner], out)
        if not path.exists():
            again = self._compute(owner)
            if again.outs != self.records[owner].outs:
                raise KDError(
                    f"{owner}: computed again, it wrote something else (a GPU may); start with an empty work folder "
                    "and keep the models"
                )
        return path

    def seconds(self, *stages: str) -> float:
        """What the stages took when they were computed."""
        return sum(record.seconds for name, record in self.records.items() if name.partition("@")[0] in stages)

    def _owner(self, out: str) -> str:
        return next(name for name, record in self.records.items() if out in record.outs)

    def _key(self, stage: Stage) -> str:
        read = {need.out: self.hash(need.out) for need in self.graph.needs(stage.name)}
        return fingerprint.of_value([stage.cmd, self._values[stage.name], self._bench.code_of(stage), read])

    def _compute(self, name: str) -> Record:
        stage, key = self.graph[name], self._keys[name]
        state = self._bench.folder / "state" / key
        read = {out: self.path(out) for out in {need.out for need in self.graph.needs(name)}}
        began = time.monotonic()
        with self._scratch() as folder, self._bench.board.stage(name) as progress:
            inputs.lay_out(inputs.mentioned(self._values[name]), self._bench.settings.store_uri, folder)
            _link(read, folder)
            own = {"KD_STATE": str(state), "KD_PROGRESS": str(progress), "KD_HOME": str(self._bench.folder)}
            with contextlib.chdir(folder), _environment({**own, "KD_STORE_URI": self._bench.settings.store_uri}):
                _call(stage.cmd)
            record = self._keep(stage, key, folder, time.monotonic() - began)
        shutil.rmtree(state, ignore_errors=True)
        self._bench.computed.append(name)
        return record

    def _keep(self, stage: Stage, key: str, folder: Path, seconds: float) -> Record:
        made = self._bench.folder / "cache" / f".{key}.{uuid.uuid4().hex}.tmp"
        outs = {}
        for out in stage.outs:
            target = made / "outs" / out
            target.parent.mkdir(parents=True, exist_ok=True)
            (folder / out).rename(target)
            outs[out] = fingerprint.of_folder(target) if target.is_dir() else fingerprint.of_file(target)
        record = Record(stage.name, round(seconds, 3), outs)
        (made / "record.json").write_text(json.dumps(asdict(record), indent=1), encoding="utf-8")
        shutil.rmtree(made.parent / key, ignore_errors=True)
        made.rename(made.parent / key)
        return record

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        parent = self._bench.folder / "scratch"
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=parent) as name:
            (Path(name) / "params.yaml").write_bytes(self._document)
            yield Path(name)


def _link(read: Mapping[str, Path], folder: Path) -> None:
    """What a stage reads of other stages, and the folders that stand in for teachers and scores it does without."""
    for name in ("scores/pretraining", "scores/reference", "teachers/none"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for out, content in read.items():
        (folder / out).parent.mkdir(parents=True, exist_ok=True)
        (folder / out).symlink_to(content)


def _call(command: str) -> None:
    """`python -m components.STAGE ITEM…` in this process and folder."""
    module_name, *words = command.split()[2:]
    module = importlib.import_module(module_name)
    component = module.COMPONENT
    context = Context(component, dict(zip(component.items, words, strict=True)))
    module.main(context)
    context.check_outputs()


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
