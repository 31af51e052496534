"""Gathers what the gate needs: the run's numbers, and the champion's answers on the run's own test rows."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from kd_core.config.base import parse
from kd_core.config.data import MULTI_LABEL, Kind
from kd_core.config.evaluation import GateParams
from kd_core.evaluation.names import main_metric, metric_name
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.decisions import row_scores
from kd_ops.gate import Booleans, Champion, Decision, Measured, Scores, Verdict, decide
from kd_ops.outs import Outs, read_document
from kd_ops.packing import STUDENT, TEST
from kd_ops.register import student_speed
from kd_ops.runs import Run
from kd_ops.served import serve_version
from kd_ops.settings import Settings

EXAMPLES = "evaluation/details/examples.parquet"
SERVED = "adaptive"
"""The answers that serve: early exits at the chosen threshold."""

_NEEDED_TAGS = ("kd.labels", "kd.weights")


def judge(run: Run, outs: Outs, client: Any, champion: Any | None, settings: Settings) -> Decision:
    """The gate's decision on the run's student against the registered version `champion` (None: there is none)."""
    gate = parse(GateParams, run.params()["gate"], "gate")
    model = measured(outs)
    if champion is not None and (lacking := [tag for tag in _NEEDED_TAGS if tag not in champion.tags]):
        return Decision(Verdict.HOLD, (_unknown_champion(champion, lacking),))
    examples = pd.read_parquet(io.BytesIO(outs.read(EXAMPLES)))
    scores = _scores(examples)
    against = None if champion is None else _champion(champion, model, examples, outs, client, settings)
    return decide(gate, model, scores, examples["group"].to_numpy(dtype=str), against, _slices(examples))


def measured(outs: Outs) -> Measured:
    """What evaluate and measure say of the run's student. Raises InvalidDataError if they lack it."""
    evaluated = read_document(outs, "evaluation/metrics.json")
    models, metric = evaluated.get("models", {}), main_metric(evaluated)
    teachers = [quality[metric] for name, quality in models.items() if name.startswith("teacher:")]
    if SERVED not in models or not teachers:
        raise InvalidDataError(f"evaluation/metrics.json: no {metric_name(metric)} of {SERVED!r} or of any teacher")
    inference = json.loads(outs.read(f"{STUDENT}/inference.json"))
    speed = student_speed(read_document(outs, "measure/metrics.json"))
    return Measured(
        weights=outs.md5(STUDENT),
        labels=tuple(inference["labels"]),
        accuracy=models[SERVED][metric],
        best_teacher_accuracy=max(teachers),
        speedup=speed["speedup"],
        latency_ms=speed["latency_ms"],
        machine=speed["machine"],
        kind=inference.get("kind", "classification"),
        metric=metric_name(metric),
    )


def test_hash(outs: Outs) -> str:
    """Hash of the test rows that the run was evaluated on."""
    return str(read_document(outs, "evaluation/metrics.json")["test"]["hash"])


def _unknown_champion(champion: Any, lacking: Sequence[str]) -> str:
    return (
        f"version {champion.version}, the champion, was not registered by a run (it has no tag {', '.join(lacking)}) "
        "and cannot be compared with; `kd rollback --to VERSION` gives its alias to a version that a run registered"
    )


def _champion(
    version: Any, model: Measured, examples: pd.DataFrame, outs: Outs, client: Any, settings: Settings
) -> Champion:
    tags = version.tags
    labels, kind = tuple(json.loads(tags["kd.labels"])), tags.get("kd.task", "classification")
    scores: Scores
    if (set(labels), kind) != (set(model.labels), model.kind):
        scores = np.zeros(len(examples), dtype=bool)  # refused by its labels or kind before anything is compared
    elif tags["kd.weights"] == model.weights:
        scores = _scores(examples)
    else:
        known = _stored_scores(version, examples, outs, client)
        scores = _computed_scores(version, kind, labels, examples, outs, settings) if known is None else known
    latency = tags.get("kd.latency_ms")
    return Champion(
        version=str(version.version),
        weights=tags["kd.weights"],
        labels=labels,
        scores=scores,
        latency_ms=float(latency) if latency else None,
        machine=tags.get("kd.machine"),
        kind=kind,
    )


def _stored_scores(version: Any, examples: pd.DataFrame, outs: Outs, client: Any) -> Scores | None:
    """The champion's scores from its own run, if that was evaluated on exactly these test rows."""
    from mlflow.exceptions import MlflowException

    if version.tags.get("kd.test_hash") != test_hash(outs):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            stored = pd.read_parquet(client.download_artifacts(version.run_id, EXAMPLES, scratch))
        except (MlflowException, OSError):  # its run was deleted: the model itself still answers
            return None
    stored = stored.set_index("id")
    if not stored.index.equals(pd.Index(examples["id"], name="id")):
        return None
    return _scores(stored)


def _computed_scores(
    version: Any, kind: Kind, labels: Sequence[str], examples: pd.DataFrame, outs: Outs, settings: Settings
) -> Scores:
    """The champion answers the run's test rows now."""
    rows = pd.read_parquet(io.BytesIO(outs.read(TEST))).set_index("id").loc[examples["id"]]
    texts = [column for column in ("text", "text_pair") if column in rows.columns]
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "test.parquet", Path(scratch) / "answers.parquet"
        rows[texts].to_parquet(source, index=False)
        serve_version(version, settings).predict(["--input", str(source), "--output", str(target)])
        answers = pd.read_parquet(target)["label"]
    if kind == MULTI_LABEL:
        return row_scores(_indicators(answers, labels).astype(np.float64), _indicators(examples["label"], labels), kind)
    return np.asarray(answers.to_numpy(dtype=str) == examples["label"].to_numpy(dtype=str), dtype=bool)


def _indicators(column: pd.Series, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """[N, C], 1 for each label of each row."""
    return np.array([[label in set(row) for label in labels] for row in column], dtype=np.int64)


def _scores(examples: pd.DataFrame) -> Scores:
    """Whether each row is answered rightly, or how rightly where answers can be in between."""
    if f"{SERVED}/score" in examples.columns:
        return np.asarray(examples[f"{SERVED}/score"].to_numpy(dtype=np.float64), dtype=np.float64)
    return np.asarray(examples[f"{SERVED}/correct"].to_numpy(dtype=bool), dtype=bool)


def _slices(examples: pd.DataFrame) -> dict[str, Booleans]:
    """Boolean columns that are not a model's right or wrong."""
    names = [name for name in examples.columns if examples[name].dtype == bool and not name.endswith("/correct")]
    return {name: examples[name].to_numpy(dtype=bool) for name in names}
