"""The children of a pipeline run in MLflow: one for each stage and try, cached stages included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from kd_ops.base.redaction import redact
from kd_ops.runs.outs import Outs, read_document
from kd_ops.runs.runs import Run, StageRecord
from kd_ops.tracking import tracked_values

MlflowStatus = Literal["FINISHED", "FAILED", "KILLED"]

TAG_CHARACTERS = 4000
_METRICS_A_BATCH = 1000


def stage_status(record: StageRecord) -> MlflowStatus:
    """A stage that still says "running" when everything is over was killed, as was one that a signal ended."""
    if record.status == "done":
        return "FINISHED"
    return "KILLED" if record.status == "running" or (record.exit_code or 0) > 128 else "FAILED"


def log_children(client: Any, parent: str, run: Run, outs: Outs) -> None:
    """Log every stage's tries; children that are there already are completed, not made twice."""
    folder = client.get_run(parent).info.experiment_id
    found = client.search_runs([folder], filter_string=f"tags.`mlflow.parentRunId` = '{parent}'", max_results=5000)
    children = {child.data.tags.get("kd.try_of"): child for child in found}
    for name, record in run.stages().items():
        tries = max(record.tries, 1)
        for attempt in range(1, tries + 1):
            child = children.get(f"{name}#{attempt}")
            if child is None:
                child = client.create_run(folder, tags=_child_tags(parent, run, name, attempt), run_name=name)
            child_id = str(child.info.run_id)
            status: MlflowStatus = stage_status(record) if attempt == tries else "FAILED"
            try:
                if attempt == tries:
                    _log_stage(client, child_id, record, outs)
            finally:
                client.set_terminated(child_id, status)


def _child_tags(parent: str, run: Run, stage: str, attempt: int) -> dict[str, str]:
    return {
        "mlflow.parentRunId": parent,
        "mlflow.runName": stage,
        "kd.kind": "stage",
        "kd.stage": stage,
        "kd.try": str(attempt),
        "kd.try_of": f"{stage}#{attempt}",
        "kd.of_run": run.id,
    }


def _log_stage(client: Any, child: str, record: StageRecord, outs: Outs) -> None:
    tags = {"cached": str(record.cached).lower(), "kd.key": record.key, "kd.exit_code": record.exit_code}
    if record.error:
        tags["kd.error"] = redact(record.error)[-TAG_CHARACTERS:]
    set_tags(client, child, {key: str(value) for key, value in tags.items() if value is not None})
    points = [("seconds", record.seconds, 0)]
    if record.status == "done":
        for path in record.outs:
            points += _curves(read_document(outs, f"{path}/history.json"), path, len(record.outs) > 1)
    log_metrics(client, child, points)


def _curves(history: Mapping[str, Any], path: str, several: bool) -> Iterator[tuple[str, float, int]]:
    prefix = f"{path.rsplit('/', 1)[-1]}/" if several else ""
    for name, points in (history.get("curves") or {}).items():
        for step, value in points:
            if value is not None:
                yield tracked_values.metric_name(prefix + name), float(value), int(step)


def set_tags(client: Any, run_id: str, tags: Mapping[str, str]) -> None:
    """Set tags of an MLflow run, at most 100, in one call."""
    from mlflow.entities import RunTag

    client.log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def log_metrics(client: Any, run_id: str, points: list[tuple[str, float, int]]) -> None:
    """Log points (name, value, step) that are not there yet; the run's start is their time, so that repeats agree."""
    from mlflow.entities import Metric

    info = client.get_run(run_id)
    known: set[tuple[str, int]] = set()
    for key in {name for name, _, _ in points} & info.data.metrics.keys():
        known |= {(key, point.step) for point in client.get_metric_history(run_id, key)}
    new = [Metric(key, value, info.info.start_time, step) for key, value, step in points if (key, step) not in known]
    for start in range(0, len(new), _METRICS_A_BATCH):
        client.log_batch(run_id, metrics=new[start : start + _METRICS_A_BATCH])
