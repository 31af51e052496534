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
from kd_core.evaluation.names import metric_name
from kd_core.evaluation.quality.contamination import contaminated
from kd_core.rows import labels_of
from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.tasks.decisions import MAIN_METRIC, row_scores
from kd_ops.base.settings import Settings
from kd_ops.promotion.gate import (
    Booleans,
    Champion,
    Decision,
    Measured,
    Scores,
    Speed,
    Verdict,
    decide,
    left_out,
    with_left_out,
)
from kd_ops.registering.packing import STUDENT
from kd_ops.registering.register import student_speed
from kd_ops.registering.training_record import TAG, read_record
from kd_ops.runs.outs import Outs, read_document
from kd_ops.runs.results import read_result
from kd_ops.runs.runs import Run
from kd_ops.serving.served import serve_version

EXAMPLES = "evaluation/details/examples.parquet"
TEST = "data/checked/reference/test.parquet"
SERVED = "adaptive"
"""The answers that serve: early exits at the chosen threshold."""
_SCORED = ("/correct", "/score")
"""What follows a model's name in the columns of `EXAMPLES` that say how right its answers are."""

_NEEDED_TAGS = ("kd.labels", "kd.weights", TAG)


def judge(run: Run, outs: Outs, client: Any, champion: Any | None, settings: Settings) -> Decision:
    """The gate's decision on the run's student against the registered version `champion` (None: there is none).

    Both are judged on the same rows: those of the run's test that neither was trained on. Raises TryAgainError if the
    run is not registered yet.
    """
    gate = parse(GateParams, run.params()["gate"], "gate")
    if champion is not None and (lacking := [tag for tag in _NEEDED_TAGS if tag not in champion.tags]):
        return Decision(Verdict.HOLD, (_unknown_champion(champion, lacking),))
    examples = pd.read_parquet(io.BytesIO(outs.read(EXAMPLES)))
    rows = pd.read_parquet(io.BytesIO(outs.read(TEST))).set_index("id").loc[examples["id"]]
    try:
        seen = _seen(run, rows, champion, settings)
    except FileNotFoundError as error:
        return Decision(Verdict.HOLD, (f"the store has lost a record of training texts; restore it: {error}",))
    if held := left_out(seen, examples["group"].to_numpy(dtype=str)):
        return held
    examples, rows = examples[~seen], rows[~seen]
    model, scores = measured(outs, examples), _scores(examples, SERVED)
    against = None if champion is None else _champion(champion, model, examples, rows, outs, client, settings)
    decision = decide(gate, model, scores, examples["group"].to_numpy(dtype=str), against, _slices(examples))
    return with_left_out(decision, seen)


def _seen(run: Run, rows: pd.DataFrame, champion: Any | None, settings: Settings) -> Booleans:
    """[N], test rows that the run's student or the champion was trained on."""
    own = read_result(run).get("trained_on")
    if own is None:
        raise TryAgainError(
            f"run {run.id}: what it was trained on is not on record; run `python -m kd_ops.registering.register`"
        )
    trained = read_record(str(own), settings)
    if champion is not None:
        trained |= read_record(champion.tags[TAG], settings)
    similarity = run.params()["data"]["reference"]["validation"]["duplicate_similarity"]
    return contaminated(rows, trained, similarity)


def measured(outs: Outs, examples: pd.DataFrame) -> Measured:
    """What evaluate, on these test rows, and measure say of the student. Raises InvalidDataError if they lack it."""
    models = {name.rpartition("/")[0] for name in examples.columns if name.endswith(_SCORED)}
    teachers = [float(_scores(examples, name).mean()) for name in models if name.startswith("teacher:")]
    if SERVED not in models or not teachers:
        raise InvalidDataError(f"{EXAMPLES}: no answers of {SERVED!r} or of any teacher")
    inference = json.loads(outs.read(f"{STUDENT}/inference.json"))
    kind: Kind = inference.get("kind", "classification")
    speed = student_speed(read_document(outs, "measure/metrics.json"))
    return Measured(
        weights=outs.md5(STUDENT),
        labels=tuple(inference["labels"]),
        accuracy=float(_scores(examples, SERVED).mean()),
        best_teacher_accuracy=max(teachers),
        speedup=speed["speedup"],
        speed=Speed(speed["latency_ms"], speed["relative_latency"], speed["machine"]),
        kind=kind,
        metric=metric_name(MAIN_METRIC[kind]),
    )


def test_hash(outs: Outs) -> str:
    """Hash of the test rows that the run was evaluated on."""
    return str(read_document(outs, "evaluation/metrics.json")["test"]["hash"])


def _unknown_champion(champion: Any, lacking: Sequence[str]) -> str:
    return (
        f"version {champion.version}, the champion, was not registered by a run (it has no tag {', '.join(lacking)}) "
        "and cannot be compared with; run the recipe that made it again, or give its alias to a version that a run "
        "registered: `kd rollback --to VERSION`"
    )


def _champion(
    version: Any,
    model: Measured,
    examples: pd.DataFrame,
    rows: pd.DataFrame,
    outs: Outs,
    client: Any,
    settings: Settings,
) -> Champion:
    tags = version.tags
    labels, kind = tuple(json.loads(tags["kd.labels"])), tags.get("kd.task", "classification")
    scores: Scores
    if (set(labels), kind) != (set(model.labels), model.kind):
        scores = np.zeros(len(examples), dtype=bool)  # refused by its labels or kind before anything is compared
    elif tags["kd.weights"] == model.weights:
        scores = _scores(examples, SERVED)
    else:
        known = _stored_scores(version, examples, outs, client)
        scores = _computed_scores(version, model, examples, rows, settings) if known is None else known
    latency, relative = (float(tags[key]) if key in tags else None for key in ("kd.latency_ms", "kd.relative_latency"))
    return Champion(
        version=str(version.version),
        weights=tags["kd.weights"],
        labels=labels,
        scores=scores,
        speed=Speed(latency, relative, tags.get("kd.machine")),
        kind=kind,
    )


def _stored_scores(version: Any, examples: pd.DataFrame, outs: Outs, client: Any) -> Scores | None:
    """The champion's scores on these rows from its own run, if that was evaluated on the same test set."""
    from mlflow.exceptions import MlflowException

    if version.tags.get("kd.test_hash") != test_hash(outs):
        return None
    with tempfile.TemporaryDirectory() as scratch:
        try:
            stored = pd.read_parquet(client.download_artifacts(version.run_id, EXAMPLES, scratch))
        except (MlflowException, OSError):  # its run was deleted: the model itself still answers
            return None
    stored = stored.set_index("id")
    if not examples["id"].isin(stored.index).all():
        return None
    return _scores(stored.loc[examples["id"]], SERVED)


def _computed_scores(
    version: Any, model: Measured, examples: pd.DataFrame, rows: pd.DataFrame, settings: Settings
) -> Scores:
    """The champion, whose labels and kind are the model's, answers the rows now."""
    texts = [column for column in ("text", "text_pair") if column in rows.columns]
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "test.parquet", Path(scratch) / "answers.parquet"
        rows[texts].to_parquet(source, index=False)
        served = serve_version(version, settings)
        served.predict(["--input", str(source), "--output", str(target), *served.as_named(texts)])
        answers = pd.read_parquet(target)["label"]
    if model.kind == MULTI_LABEL:
        given, true = (_indicators(column, model.labels) for column in (answers, examples["label"]))
        return row_scores(given.astype(np.float64), true, MULTI_LABEL)
    return np.asarray(answers.to_numpy(dtype=str) == examples["label"].to_numpy(dtype=str), dtype=bool)


def _indicators(column: pd.Series, labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """[N, C], 1 for each label of each row."""
    return np.array([[label in labels_of(row) for label in labels] for row in column], dtype=np.int64)


def _scores(examples: pd.DataFrame, model: str) -> Scores:
    """[N], whether `model` answers each row rightly, or how rightly where answers can be in between."""
    if f"{model}/score" in examples.columns:
        return np.asarray(examples[f"{model}/score"].to_numpy(dtype=np.float64), dtype=np.float64)
    return np.asarray(examples[f"{model}/correct"].to_numpy(dtype=bool), dtype=bool)


def _slices(examples: pd.DataFrame) -> dict[str, Booleans]:
    """Boolean columns that are not a model's right or wrong."""
    names = [name for name in examples.columns if examples[name].dtype == bool and not name.endswith("/correct")]
    return {name: examples[name].to_numpy(dtype=bool) for name in names}
