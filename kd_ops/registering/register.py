"""Registers a run's student in MLflow: `python -m kd_ops.registering.register --run URI`.

Idempotent: the same weights are the same version, in this run or another, on this machine or another. A version is
registered only after it has answered its own input example in a fresh process away from the project.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_ops.base.entry import main_process
from kd_ops.base.locks import exclusive
from kd_ops.base.redaction import redact
from kd_ops.base.settings import Settings
from kd_ops.registering.packing import STUDENT, pack, prove, student_task
from kd_ops.registering.training_record import TAG, keep_record
from kd_ops.registry.registry import MODEL_FOLDER, connect, versions
from kd_ops.resolving.split_ledgers import publish_ledgers
from kd_ops.runs.notes import note_registered
from kd_ops.runs.outs import Outs, read_document
from kd_ops.runs.results import read_result, update_result
from kd_ops.runs.runs import Run
from kd_ops.stages.code_snapshot import code_of, place
from kd_ops.tracking import tracked_values
from kd_ops.tracking.closing import asked_run, closing_step
from kd_ops.tracking.track import run_tags, track

_DESCRIPTION_CHARACTERS = 5000


@dataclass(frozen=True)
class Registered:
    """A version in the registry."""

    name: str
    version: str
    aliases: tuple[str, ...]
    created: bool
    """Whether this call registered it."""


def register(run: Run, settings: Settings) -> Registered:
    """Register the run's student, or find the version that it already is; noted in result.json.

    From here on later data do not test on what the run trained on: its split ledgers are published before the version.

    Raises TryAgainError if the run has no student yet, InvalidDataError if the packed model does not answer.
    """
    outs = Outs.of(run, settings)
    weights = outs.md5(STUDENT)
    name = str(run.params()["registry"]["name"])
    client = connect(settings)
    trained_on = keep_record(run, outs, client, settings)
    publish_ledgers(run, settings)
    with exclusive(settings, "model", name):
        found = _existing(client, name, weights)
        created = found is None
        if found is None:
            made = _create(client, name, run, outs, trained_on, settings)
            found = _oldest(client, name, weights, made)
            created = found is made
        if not created:
            _renew(client, found, outs, trained_on)
    aliases = tuple(client.get_model_version(name, str(found.version)).aliases)
    registered = Registered(name, str(found.version), aliases, created)
    model = {"name": name, "version": registered.version, "aliases": list(aliases)}
    note_registered(run, name, registered.version, settings.store_uri)
    update_result(run, model=model, trained_on=trained_on)
    return registered


def _existing(client: Any, name: str, weights: str) -> Any | None:
    """The oldest version with these weights."""
    same = [found for found in versions(client, name) if found.tags.get("kd.weights") == weights]
    return same[-1] if same else None


def _oldest(client: Any, name: str, weights: str, made: Any) -> Any:
    """The version of these weights that stays: the oldest. `made` goes again if another machine was faster.

    The registry numbers versions one after the other, so of two that were made at once the younger sees the older.
    """
    oldest = _existing(client, name, weights)
    if oldest is None or str(oldest.version) == str(made.version):
        return made
    client.delete_model_version(name, str(made.version))
    return oldest


def _create(client: Any, name: str, run: Run, outs: Outs, trained_on: str, settings: Settings) -> Any:
    from mlflow.exceptions import MlflowException

    parent = str(read_result(run).get("mlflow_run") or track(run, settings))
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        packed = pack(outs, folder, place(code_of(run, settings), folder / "project"))
        prove(packed, folder)
        logged = client.create_logged_model(
            experiment_id=client.get_run(parent).info.experiment_id, name=MODEL_FOLDER, source_run_id=parent
        )
        client.log_model_artifacts(logged.model_id, str(packed))
        client.finalize_logged_model(logged.model_id, "READY")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    return client.create_model_version(
        name,
        source=logged.artifact_location,
        run_id=parent,
        tags=version_tags(run, outs) | {TAG: trained_on},
        description=_description(outs),
        model_id=logged.model_id,
    )


def version_tags(run: Run, outs: Outs) -> dict[str, str]:
    """Origin, weights, test set and the metrics that the gate reads, as tags of a version."""
    task = student_task(outs)
    evaluated = read_document(outs, "evaluation/metrics.json")
    quality = evaluated.get("models", {}).get("adaptive", {})
    tags = run_tags(run, outs) | {
        "kd.weights": outs.md5(STUDENT),
        "kd.labels": json.dumps(task.labels, ensure_ascii=False),
        "kd.task": task.kind,
        "kd.test_hash": evaluated.get("test", {}).get("hash", ""),
    }
    tags |= {f"kd.metric.{key}": f"{value:.6g}" for key, value in tracked_values.metrics(quality).items()}
    return tags | _speed_tags(outs)


def _speed_tags(outs: Outs) -> dict[str, str]:
    speed = student_speed(read_document(outs, "measure/metrics.json"))
    return {f"kd.{key}": str(value) for key, value in speed.items() if value is not None}


def _renew(client: Any, known: Any, outs: Outs, trained_on: str) -> None:
    """Tags of a version that another run has come to again.

    The newest timing counts, so that a doubtful one can be replaced; another machine's does not. What the version was
    trained on stays, and is added where an earlier release did not note it.
    """
    tags = {} if TAG in known.tags else {TAG: trained_on}
    speed = _speed_tags(outs)
    if speed.get("kd.machine") == known.tags.get("kd.machine"):
        tags |= speed
    for key, value in tags.items():
        client.set_model_version_tag(known.name, str(known.version), key, value)


def student_speed(measured: dict[str, Any]) -> dict[str, Any]:
    """machine (fingerprint), latency_ms (median at batch 1), relative_latency (the same ÷ that of the reference
    workload) and speedup (at the largest batch) of the student.
    """
    from kd_core.runtime import fingerprint

    rows = [row for row in measured.get("rows", []) if row["model"] == "adaptive"]
    single: dict[str, Any] = next((row for row in rows if row["batch"] == 1), {})
    largest: dict[str, Any] = max(rows, key=lambda row: row["batch"], default={})
    return {
        "machine": fingerprint.of_value(measured["machine"]) if measured.get("machine") else None,
        "latency_ms": (single.get("latency_ms") or {}).get("p50"),
        "relative_latency": (measured.get("relative_latency") or {}).get("ratio"),
        "speedup": largest.get("speedup"),
    }


def _description(outs: Outs) -> str:
    text = outs.read("report/model_card.md").decode() if "report/model_card.md" in outs else ""
    return redact(text)[:_DESCRIPTION_CHARACTERS]


def register_step(run: Run, settings: Settings) -> None:
    """Register as a step of the run's end: say what came out, and record it if that fails."""
    with closing_step(run, settings, "register"):
        registered = register(run, settings)
    what = "registered" if registered.created else "already registered:"
    print(f"{what} {registered.name} version {registered.version}")


def main(argv: list[str] | None = None) -> None:
    """Entry point of the closing task."""
    register_step(asked_run("kd_ops.registering.register", __doc__, argv), Settings())


if __name__ == "__main__":
    main_process(main)
