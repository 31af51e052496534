"""Where every output came from: a record beside the data and never inside it.

`STORE_URI/provenance/MD5/STAGE/KEY.json`: equal outputs (two empty files) may come from different stages, or from one
stage under different keys, and each has its own origin. Times and hosts stand here, so that they cannot change keys.
The first record is kept. A run that reuses results of others says so in files of its own below
`STORE_URI/provenance/uses/RUN/`, one for all that it takes over at a time. The run's name is also the tag `kd.run` of
its MLflow run.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.files import to_json
from kd_core.runtime.fingerprint import of_value
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.runs.runs import Run
from kd_ops.stages.code_snapshot import code_files
from kd_ops.stages.keys import Fragment, out_hashes
from kd_ops.stages.machine import machine

FOLDER = "provenance"
USES = f"{FOLDER}/uses"


def git_state(project: Path) -> dict[str, Any] | None:
    """Commit and whether the working tree differs from it; None where neither git nor an image tells.

    Code that git does not know runs like any other, so it counts; other untracked files do not. An image is built from
    a commit's files and has KD_GIT_SHA.
    """
    try:
        commit = _git(project, "rev-parse", "HEAD")
        changed = _git(project, "status", "--porcelain", "--untracked-files=no")
        known = set(_git(project, "ls-files", "-z").split("\0"))
        return {"sha": commit, "dirty": bool(changed) or not known.issuperset(code_files(project))}
    except (OSError, subprocess.SubprocessError):
        built = os.environ.get("KD_GIT_SHA")
        return {"sha": built, "dirty": False} if built else None


def _machine() -> dict[str, Any] | None:
    """The machine; None where its GPUs do not answer: the stage is computed, and its result counts without this."""
    try:
        return machine()
    except TryAgainError:
        return None


def record_computed(run: Run, stage: str, key: str, fragment: Fragment, seconds: float, settings: Settings) -> None:
    """Write the record of each output that the stage has just computed, before anybody can reuse it."""
    store, outputs = Storage(settings.store_uri), out_hashes(fragment)
    about = {
        "stage": stage,
        "run": run.id,
        "recipe": run.info().get("recipe"),
        "key": key,
        "git": run.info().get("git"),
        "image": os.environ.get("KD_IMAGE"),
        "machine": _machine(),
        "seconds": round(seconds, 3),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "params": fragment.get("params", {}).get("params.yaml", {}),
        "seeds": _seeds(fragment.get("params", {})),
        "inputs": {dep["path"]: dep["md5"] for dep in fragment["deps"]},
        "outputs": outputs,
        "lock": of_value(fragment),
    }
    for md5 in set(outputs.values()):
        paths = [path for path, other in outputs.items() if other == md5]
        store.create(f"{_name(md5, stage, key)}.json", to_json({"md5": md5, "paths": paths, **about}))


def record_used(run: Run, stages: Mapping[str, str], settings: Settings) -> None:
    """Note that this run uses what other runs computed; `stages` are the stages' keys → names."""
    use = {"run": run.id, "stages": dict(stages), "time": datetime.now(UTC).isoformat(timespec="seconds")}
    name = f"{USES}/{run.id}/{of_value(sorted(stages))[:16]}.json"
    Storage(settings.store_uri).write(name, to_json(use))


def origin(md5: str, stage: str, key: str, store: Storage) -> str | None:
    """The run that computed an output of the stage under this key; None where that is not known."""
    try:
        return str(json.loads(store.read(f"{_name(md5, stage, key)}.json"))["run"])
    except FileNotFoundError:
        return None


def read(md5: str, settings: Settings) -> list[dict[str, Any]]:
    """The records of an output, one for each stage and key that came to it, with `reused_by`."""
    store = Storage(settings.store_uri)
    place, uses = store / f"{FOLDER}/{md5}", _uses(store / USES)
    records = [json.loads(place.read(name)) for name in place.list()]
    return [{**record, "reused_by": _reuses(record, uses)} for record in records]


def _uses(place: Storage) -> list[dict[str, Any]]:
    return [json.loads(place.read(name)) for name in place.list()]


def _reuses(record: dict[str, Any], uses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Who took over the result; a run that met its own again did not."""
    return [
        {"run": use["run"], "stage": use["stages"][record["key"]], "time": use["time"]}
        for use in uses
        if record["key"] in use["stages"] and use["run"] != record["run"]
    ]


def _name(md5: str, stage: str, key: str) -> str:
    return f"{FOLDER}/{md5}/{stage}/{key}"


def lock_hash(run: Run) -> str:
    """Hash over all lock fragments of a run: what `dvc.lock` would be."""
    return hashlib.sha256(json.dumps(run.locks(), sort_keys=True).encode()).hexdigest()


def _git(project: Path, *words: str) -> str:
    answer = subprocess.run(["git", "-C", str(project), *words], capture_output=True, text=True, check=True, timeout=30)
    return answer.stdout.strip()


def _seeds(values: Any, prefix: str = "") -> dict[str, int]:
    if not isinstance(values, dict):
        return {}
    found: dict[str, int] = {}
    for key, value in values.items():
        path = f"{prefix}.{key}" if prefix else str(key)
        found |= {path: value} if key == "seed" else _seeds(value, path)
    return found
