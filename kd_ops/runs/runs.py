"""The folder of one run: its resolved params, what each stage wrote, how far it got. Local or on an object store.

`RUN_URI/`: params.yaml · run.json · locks/STAGE.json (lock fragments: within a run the only truth) · stages/STAGE.json
(records) · code/STAGE.json · progress/STAGE.jsonl · logs/STAGE.log · state/KEY/ (unfinished work) · result.json ·
report/
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kd_core.runtime.errors import ParamsError
from kd_core.runtime.files import to_json
from kd_core.runtime.storage import Storage
from kd_ops.base.documents import from_yaml
from kd_ops.base.settings import Settings, absolute, is_local

Status = Literal["running", "done", "failed"]


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
        return self.read_json(f"locks/{stage}.json")

    def locks(self) -> dict[str, dict[str, Any]]:
        """All lock fragments."""
        names = (n.removesuffix(".json") for n in self.storage.list("locks") if n.endswith(".json"))
        return {name: fragment for name in names if (fragment := self.lock(name))}

    def write_lock(self, stage: str, fragment: dict[str, Any]) -> None:
        """Publish a lock fragment."""
        self.storage.write(f"locks/{stage}.json", to_json(fragment))

    def code(self, stage: str) -> dict[str, str] | None:
        """Path → md5 of the project's files that the stage last ran with; None if it was never started."""
        return self.read_json(f"code/{stage}.json")

    def write_code(self, stage: str, files: dict[str, str]) -> None:
        """Keep the hashes of the stage's code, so that a plan can name the files that changed since."""
        self.storage.write(f"code/{stage}.json", to_json(files))

    def stage(self, stage: str) -> StageRecord | None:
        """The stage's record; None if it was never started in this run."""
        content = self.read_json(f"stages/{stage}.json")
        return StageRecord(**content) if content else None

    def stages(self) -> dict[str, StageRecord]:
        """All stage records."""
        names = (n.removesuffix(".json") for n in self.storage.list("stages") if n.endswith(".json"))
        return {name: record for name in names if (record := self.stage(name))}

    def write_stage(self, record: StageRecord) -> None:
        """Replace a stage's record."""
        self.storage.write(f"stages/{record.stage}.json", to_json(asdict(record)))

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
