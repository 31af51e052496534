"""Logs a pipeline run to MLflow, one child run for each stage and try: `python -m kd_ops.tracking.track --run URI`.

It is one closing task, so that stages need no MLflow and a cached stage is logged like a computed one. Run again, it
completes the same parent (found by its tag `kd.run`), also one that a killed process left RUNNING.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_ops.base.entry import main_process
from kd_ops.base.redaction import redact
from kd_ops.base.settings import Settings
from kd_ops.lineage import provenance
from kd_ops.registry.registry import connect, experiment
from kd_ops.runs.outs import Outs, read_document
from kd_ops.runs.results import read_result, update_result
from kd_ops.runs.runs import Run
from kd_ops.tracking import tracked_values
from kd_ops.tracking.tracked_stages import (
    TAG_CHARACTERS,
    MlflowStatus,
    log_children,
    log_metrics,
    set_tags,
    stage_status,
)

ARTIFACTS = ("report", "evaluation/details", "evaluation/metrics.json", "measure/metrics.json", "validation")
LAST_STAGE = "report"
_PARAMS_A_BATCH = 100


def track(run: Run, settings: Settings, interrupted: bool = False) -> str:
    """Log what the run has so far; the parent's MLflow run id.

    :param interrupted: the run was stopped by a signal: its parent ends as KILLED instead of FAILED
    """
    client = connect(settings)
    outs = Outs.of(run, settings)
    parent = find_or_create_parent(client, run, settings)
    status: MlflowStatus = "KILLED"
    try:
        client.update_run(parent, status="RUNNING")
        _log_parent(client, parent, run, outs)
        log_children(client, parent, run, outs)
        status = final_status(run, interrupted)
    except Exception:
        status = "FAILED"
        raise
    finally:
        client.set_terminated(parent, status)
    update_result(run, mlflow_run=parent)
    return parent


def find_or_create_parent(client: Any, run: Run, settings: Settings) -> str:
    """Id of the parent MLflow run, found by its tag."""
    recipe = str(run.info().get("recipe") or run.params()["recipe"])
    folder = experiment(client, recipe, settings)
    found = client.search_runs([folder], filter_string=f"tags.`kd.run` = '{run.id}' and tags.`kd.kind` = 'pipeline'")
    if found:
        return str(found[0].info.run_id)
    tags = {"kd.run": run.id, "kd.kind": "pipeline", "mlflow.runName": run.id}
    return str(client.create_run(folder, tags=tags, run_name=run.id).info.run_id)


def run_tags(run: Run, outs: Outs) -> dict[str, str]:
    """What ties a run or a model version to its origin: git, data, lock, recipe."""
    info = run.info()
    git = info.get("git") or {}
    dataset = read_document(outs, "data/checked/reference/dataset.json")
    tags = {
        "kd.run": run.id,
        "kd.recipe": info.get("recipe"),
        "kd.variants": ", ".join(info.get("variants") or []) or None,
        "kd.git_sha": git.get("sha"),
        "kd.git_dirty": git.get("dirty"),
        "kd.data_revision": dataset.get("revision"),
        "kd.data_hash": dataset.get("hash"),
        "kd.dvc_lock": provenance.lock_hash(run),
    }
    known = {key: redact(str(value)) for key, value in tags.items() if value is not None}
    return {key: value[:TAG_CHARACTERS] for key, value in known.items()}


def final_status(run: Run, interrupted: bool) -> MlflowStatus:
    """How the run stands: its stages, and the steps that register and promote what they made.

    FINISHED if the last stage is done and no closing step failed; KILLED if the run, a stage or a closing step was
    stopped by a signal; FAILED otherwise.
    """
    records = run.stages()
    failed: dict[str, Any] | None = read_result(run).get("failed")
    stages_done = LAST_STAGE in records and all(record.status == "done" for record in records.values())
    if stages_done and failed is None and not interrupted:
        return "FINISHED"
    if failed is not None and failed["status"] == "KILLED":
        return "KILLED"
    if interrupted or any(stage_status(record) == "KILLED" for record in records.values()):
        return "KILLED"
    return "FAILED"


def _log_parent(client: Any, parent: str, run: Run, outs: Outs) -> None:
    set_tags(client, parent, run_tags(run, outs))
    _log_params(client, parent, tracked_values.params(run.params()))
    numbers = tracked_values.metrics(read_document(outs, "evaluation/metrics.json"))
    measured = tracked_values.speeds(read_document(outs, "measure/metrics.json"))
    numbers |= {f"measure/{key}": value for key, value in measured.items()}
    log_metrics(client, parent, [(key, value, 0) for key, value in numbers.items()])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "params.yaml").write_text(redact(run.params_document().decode()), encoding="utf-8")
        for path in _artifact_paths(outs):
            outs.fetch(path, folder / path)
        client.log_artifacts(parent, str(folder))


def _artifact_paths(outs: Outs) -> list[str]:
    return [path for path in outs.hashes() if any(path == name or path.startswith(f"{name}/") for name in ARTIFACTS)]


def _log_params(client: Any, run_id: str, params: Mapping[str, str]) -> None:
    from mlflow.entities import Param

    known = client.get_run(run_id).data.params
    new = [Param(key, value) for key, value in params.items() if key not in known]
    for start in range(0, len(new), _PARAMS_A_BATCH):
        client.log_batch(run_id, params=new[start : start + _PARAMS_A_BATCH])


def main(argv: list[str] | None = None) -> None:
    """Entry point of the closing task."""
    parser = argparse.ArgumentParser(
        prog="python -m kd_ops.tracking.track", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--run", required=True, help="the run's folder or URI")
    parser.add_argument("--interrupted", action="store_true", help="the run was stopped by a signal")
    arguments = parser.parse_args(argv)
    run = Run(arguments.run)
    print(f"logged to MLflow run {track(run, Settings(), arguments.interrupted)}")


if __name__ == "__main__":
    main_process(main)
