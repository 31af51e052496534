"""Gathers what the gate needs: the run's numbers, and the champion's answers on the run's own test rows."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_core.config.base import parse
from kd_core.config.evaluation import GateParams
from kd_core.runtime.errors import InvalidDataError
from kd_ops.gate import Booleans, Champion, Decision, Measured, Speed, Verdict, decide
from kd_ops.outs import Outs, read_document
from kd_ops.packing import STUDENT
from kd_ops.register import student_speed
from kd_ops.runs import Run
from kd_ops.served import serve_version
from kd_ops.settings import Settings

EXAMPLES = "evaluation/details/examples.parquet"
TEST = "data/checked/reference/test.parquet"
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
    correct = _correct(examples)
    against = None if champion is None else _champion(champion, model, examples, outs, client, settings)
    return decide(gate, model, correct, examples["group"].to_numpy(dtype=str), against, _slices(examples))


def measured(outs: Outs) -> Measured:
    """What evaluate and measure say of the run's student. Raises InvalidDataError if they lack it."""
    evaluated = read_document(outs, "evaluation/metrics.json")
    models = evaluated.get("models", {})
    teachers = [quality["accuracy"] for name, quality in models.items() if name.startswith("teacher:")]
    if SERVED not in models or not teachers:
        raise InvalidDataError(f"evaluation/metrics.json: no accuracy of {SERVED!r} or of any teacher")
    speed = student_speed(read_document(outs, "measure/metrics.json"))
    return Measured(
        weights=outs.md5(STUDENT),
        labels=tuple(json.loads(outs.read(f"{STUDENT}/inference.json"))["labels"]),
        accuracy=models[SERVED]["accuracy"],
        best_teacher_accuracy=max(teachers),
        speedup=speed["speedup"],
        speed=Speed(speed["latency_ms"], speed["relative_latency"], speed["machine"]),
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
    labels = tuple(json.loads(tags["kd.labels"]))
    if set(labels) != set(model.labels):
        correct = np.zeros(len(examples), dtype=bool)  # refused by its labels before anything is compared
    elif tags["kd.weights"] == model.weights:
        correct = _correct(examples)
    else:
        known = _stored_answers(version, examples, outs, client)
        correct = _computed_answers(version, examples, outs, settings) if known is None else known
    latency, relative = (float(tags[key]) if key in tags else None for key in ("kd.latency_ms", "kd.relative_latency"))
    return Champion(
        version=str(version.version),
        weights=tags["kd.weights"],
        labels=labels,
        correct=correct,
        speed=Speed(latency, relative, tags.get("kd.machine")),
    )


def _stored_answers(version: Any, examples: pd.DataFrame, outs: Outs, client: Any) -> Booleans | None:
    """The champion's answers from its own run, if that was evaluated on exactly these test rows."""
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
    return _correct(stored)


def _computed_answers(version: Any, examples: pd.DataFrame, outs: Outs, settings: Settings) -> Booleans:
    """The champion answers the run's test rows now."""
    rows = pd.read_parquet(io.BytesIO(outs.read(TEST))).set_index("id").loc[examples["id"]]
    texts = [column for column in ("text", "text_pair") if column in rows.columns]
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "test.parquet", Path(scratch) / "answers.parquet"
        rows[texts].to_parquet(source, index=False)
        served = serve_version(version, settings)
        served.predict(["--input", str(source), "--output", str(target), *served.as_named(texts)])
        answers = pd.read_parquet(target)["label"]
    return np.asarray(answers.to_numpy(dtype=str) == examples["label"].to_numpy(dtype=str), dtype=bool)


def _correct(examples: pd.DataFrame) -> Booleans:
    return np.asarray(examples[f"{SERVED}/correct"].to_numpy(dtype=bool), dtype=bool)


def _slices(examples: pd.DataFrame) -> dict[str, Booleans]:
    """Boolean columns that are not a model's right or wrong."""
    names = [name for name in examples.columns if examples[name].dtype == bool and not name.endswith("/correct")]
    return {name: examples[name].to_numpy(dtype=bool) for name in names}
