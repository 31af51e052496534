"""The folder of one run: its resolved params, what each stage wrote, how far it got. Local or on an object store.

`RUN_URI/`: params.yaml · run.json · locks/STAGE.json (lock fragments: within a run the only truth) · stages/STAGE.json
(records) · settled.json (both, of the stages that were taken over when the run began) · progress/STAGE.jsonl ·
logs/STAGE.log · state/KEY/ (unfinished work) · result.json · report/
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kd_core.runtime.errors import ParamsError
from kd_core.runtime.files import to_json
from kd_core.runtime.storage import Storage
from kd_ops.base.documents import from_yaml
from kd_ops.base.settings import Settings, absolute, is_local

Status = Literal["running", "done", "failed"]

SETTLED = "settled.json"


@dataclass
class StageRecord:
    """How a stage of a run stands, for `kd show`, tracking and the progress display."""

    stage: str
    status: Status = "running"
    cached: bool = False
    """Whether its outputs had been computed before, here or elsewhere."""
    seconds: float = 0.0
    overhead_cpu_seconds: float | None = None
    """CPU time of the bridge itself, without the stage's command; None where it was not measured."""
    command_cpu_seconds: float | None = None
    """CPU time of the stage's command with all that it started; None where it was not measured."""
    exit_code: int | None = None
    key: str | None = None
    """DVC's run-cache key of the stage."""
    tries: int = 0
    outs: dict[str, str] = field(default_factory=dict)
    """Path → md5."""
    code: dict[str, str] = field(default_factory=dict)
    """Path → md5 of the project's files that it last ran with, so that a plan can name those that changed since."""
    error: str | None = None
    """Last lines of what it said, if it failed."""
    profile: str | None = None
    """The profile of dags/profiles.yaml that its container had; None for a process."""
    cost: float | None = None
    """What its tries cost by that profile's price, in the user's currency; None where no price is known."""


class Run:
    """One run folder."""

    def __init__(self, uri: str) -> None:
        self.uri = absolute(uri)
        self.id = self.uri.rsplit("/", 1)[-1]
        self.storage = Storage(self.uri)
        self._begun: dict[str, Any] | None = None

    @classmethod
    def named(cls, name: str, settings: Settings | None = None) -> Run:
        """The run `name` below KD_RUNS_URI."""
        return cls(f"{(settings or Settings()).runs_uri}/{name}")

    def exists(self) -> bool:
        """Whether the run has been resolved."""
        return self.storage.exists("params.yaml")

    def params_document(self) -> bytes:
        """The resolved params.yaml. Raises ParamsError if the run has none."""
        try:
            return self.storage.read("params.yaml")
        except FileNotFoundError:
            raise ParamsError(
                f"{self.uri}: no params.yaml; `python -m kd_ops.resolving.resolve` starts a run"
            ) from None

    def params(self) -> dict[str, Any]:
        """The resolved params."""
        values: dict[str, Any] = from_yaml(self.params_document())
        return values

    def read_json(self, name: str) -> dict[str, Any] | None:
        """A JSON document of the run; None if it is not there."""
        try:
            content: dict[str, Any] = json.loads(self.storage.read(name))
        except FileNotFoundError:
            return None
        return content

    def info(self) -> dict[str, Any]:
        """run.json: run, recipe, created, git, inputs."""
        return self.read_json("run.json") or {}

    def lock(self, stage: str) -> dict[str, Any] | None:
        """The stage's lock fragment, as it would stand in dvc.lock; None if the stage has not ended well."""
        return self.read_json(f"locks/{stage}.json") or self._settled("locks").get(stage)

    def locks(self, stages: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
        """Lock fragments, all or those of some stages, as far as they have ended well."""
        own, settled = self._own("locks"), self._settled("locks")
        found = {
            # a list may lag: what it does not show is asked for, unless the beginning of the run has it
            name: self.read_json(f"locks/{name}.json") if name in own or name not in settled else settled[name]
            for name in (own | settled.keys() if stages is None else stages)
        }
        return {name: fragment for name, fragment in sorted(found.items()) if fragment}

    def write_lock(self, stage: str, fragment: dict[str, Any]) -> None:
        """Publish a lock fragment."""
        self.storage.write(f"locks/{stage}.json", to_json(fragment))

    def stage(self, stage: str) -> StageRecord | None:
        """The stage's record; None if it was never started in this run."""
        content = self.read_json(f"stages/{stage}.json") or self._settled("stages").get(stage)
        return StageRecord(**content) if content else None

    def started(self) -> set[str]:
        """Names of the stages that have a record."""
        return self._own("stages") | self._settled("stages").keys()

    def stages(self) -> dict[str, StageRecord]:
        """All stage records."""
        return {name: record for name in sorted(self.started()) if (record := self.stage(name))}

    def write_stage(self, record: StageRecord) -> None:
        """Replace a stage's record."""
        self.storage.write(f"stages/{record.stage}.json", to_json(asdict(record)))

    def write_settled(self, taken: Mapping[str, tuple[StageRecord, dict[str, Any]]]) -> None:
        """Publish the records and lock fragments of stages that are taken over at once, beside those of before."""
        records = {name: asdict(record) for name, (record, _) in taken.items()}
        locks = {name: fragment for name, (_, fragment) in taken.items()}
        self._replace_settled({**self._settled("stages"), **records}, {**self._settled("locks"), **locks})

    def forget_settled(self, stages: Iterable[str]) -> None:
        """Take back what was published of these stages."""
        gone = set(stages)
        records, locks = self._settled("stages"), self._settled("locks")
        self._replace_settled(*({n: known[n] for n in known if n not in gone} for known in (records, locks)))

    def _replace_settled(self, records: dict[str, Any], locks: dict[str, Any]) -> None:
        self._begun = {"stages": records, "locks": locks}
        self.storage.write(SETTLED, to_json(self._begun))

    def _own(self, folder: str) -> set[str]:
        """The stages that have a file of their own in the folder."""
        return {name.removesuffix(".json") for name in self.storage.list(folder) if name.endswith(".json")}

    def _settled(self, what: Literal["stages", "locks"]) -> dict[str, Any]:
        """What the run began with, by stage; a later file of the stage's own counts more."""
        if self._begun is None:
            self._begun = self.read_json(SETTLED)
        found: dict[str, Any] = (self._begun or {}).get(what, {})
        return found

    def local_path(self, name: str) -> Path | None:
        """The path of `name` with its folder made; None where the run is not on this machine."""
        if not is_local(self.uri):
            return None
        path = Path(self.uri) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def list_runs(settings: Settings | None = None) -> list[Run]:
    """All runs, newest first."""
    root = (settings or Settings()).runs_uri
    names = {name.split("/", 1)[0] for name in _run_files(root)}
    runs = [Run(f"{root}/{name}") for name in names]
    return sorted(runs, key=lambda run: (str(run.info().get("created", "")), run.id), reverse=True)


def _run_files(root: str) -> list[str]:
    if is_local(root):
        return [path.parent.name for path in Path(root).glob("*/run.json")]
    return [name for name in Storage(root).list() if name.count("/") == 1 and name.endswith("/run.json")]
