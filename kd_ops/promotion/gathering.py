"""Gathers the gate's evidence: the run's numbers, and the answers of registered versions on the run's test rows."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from kd_core.config.base import parse
from kd_core.config.data import Kind
from kd_core.config.evaluation import GateParams
from kd_core.evaluation.quality.contamination import contaminated
from kd_core.evaluation.quality.quality import TEACHER, TFIDF
from kd_core.rows import labels_of
from kd_core.runtime.arrays import Booleans
from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.tasks import columns
from kd_core.tasks import decide as deciding
from kd_ops.base.settings import Settings
from kd_ops.promotion.evidence import (
    Decision,
    JudgedRows,
    Measured,
    MostFrequent,
    Origin,
    Speed,
    Verdict,
)
from kd_ops.promotion.gate import decide, with_left_out
from kd_ops.promotion.history import Lineage
from kd_ops.promotion.rivals import EXAMPLES, SERVED, Asked, counts_of
from kd_ops.registering.packing import STUDENT, student_task
from kd_ops.registering.register import student_speed
from kd_ops.registering.training_record import TAG, read_record
from kd_ops.registry.registry import version as registered
from kd_ops.runs.outs import Outs, read_document
from kd_ops.runs.results import read_result
from kd_ops.runs.runs import Run

TEST = "data/checked/reference/test.parquet"
_COUNTS = "/counts"
"""Suffix of a model's name in the columns of `EXAMPLES`."""
_NEEDED_TAGS = ("kd.labels", "kd.weights", TAG)


def judge(
    run: Run, outs: Outs, client: Any, champion: Any | None, settings: Settings, lineage: Lineage | None = None
) -> Decision:
    """The gate's decision on the run's student against the registered version `champion` (None: there is no champion).

    All models are judged on the same rows: those of the run's test split on which none of them was trained. Raises
    TryAgainError if the run is not registered yet.

    :param lineage: the version from which losses are counted; None: the champion
    """
    gate = parse(GateParams, run.params()["gate"], "gate")
    if champion is not None and (lacking := [tag for tag in _NEEDED_TAGS if tag not in champion.tags]):
        return Decision(Verdict.HOLD, (_unknown_champion(champion, lacking),))
    older = _older(client, champion, lineage)
    examples = pd.read_parquet(io.BytesIO(outs.read(EXAMPLES)))
    rows = pd.read_parquet(io.BytesIO(outs.read(TEST))).set_index("id").loc[examples["id"]]
    try:
        seen = _seen(run, rows, [version for version in (champion, older) if version is not None], settings)
    except FileNotFoundError as error:
        return Decision(Verdict.HOLD, (f"the store has lost a record of training texts; restore it: {error}",))
    if seen.all():
        return with_left_out(Decision(Verdict.HOLD, ("no test row is left to judge by",)), seen)
    examples, rows = examples[~seen], rows[~seen]
    model = measured(outs, examples)
    asked = Asked(model, examples, rows, outs, client, settings)
    against = None if champion is None else asked.champion(champion)
    origin = None
    if older is not None and lineage is not None and asked.comparable(older):
        origin = Origin(lineage.version, asked.counts(older), lineage.spent, lineage.deleted)
    return with_left_out(decide(gate, model, _judged(examples, model.kind), against, origin), seen)


def _older(client: Any, champion: Any | None, lineage: Lineage | None) -> Any | None:
    """The registered version from which losses are counted; None if that is the champion."""
    if champion is None or lineage is None or (lineage.version == str(champion.version) and not lineage.spent):
        return None
    found = registered(client, str(champion.name), lineage.version)
    return found if all(tag in found.tags for tag in _NEEDED_TAGS) else None


def _seen(run: Run, rows: pd.DataFrame, versions: Sequence[Any], settings: Settings) -> Booleans:
    """[N], test rows on which the run's student or one of the registered versions was trained."""
    own = read_result(run).get("trained_on")
    if own is None:
        raise TryAgainError(
            f"run {run.id}: what it was trained on is not on record; run `python -m kd_ops.registering.register`"
        )
    trained = read_record(str(own), settings)
    for version in versions:
        trained |= read_record(version.tags[TAG], settings)
    similarity = run.params()["data"]["reference"]["validation"]["duplicate_similarity"]
    return contaminated(rows, trained, similarity)


def measured(outs: Outs, examples: pd.DataFrame) -> Measured:
    """The student's numbers from evaluate (on these test rows) and measure. Raises InvalidDataError without them."""
    found = {name.removesuffix(_COUNTS) for name in examples.columns if name.endswith(_COUNTS)}
    asked = student_task(outs)
    task = deciding.of(asked.kind)
    metrics = {name: float(task.metric(counts_of(examples, name).sum(0))) for name in found}
    teachers = [value for name, value in metrics.items() if name.startswith(TEACHER)]
    if SERVED not in metrics or not teachers:
        raise InvalidDataError(f"{EXAMPLES}: no answers of {SERVED!r} or of any teacher; evaluate the run again")
    speed = student_speed(read_document(outs, "measure/metrics.json"))
    return Measured(
        weights=outs.md5(STUDENT),
        labels=asked.labels,
        accuracy=metrics[SERVED],
        best_teacher_accuracy=max(teachers),
        speedup=speed["speedup"],
        speed=Speed(speed["latency_ms"], speed["relative_latency"], speed["machine"]),
        kind=asked.kind,
        metric=task.METRIC_NAME,
        macro_f1=read_document(outs, "evaluation/metrics.json")["models"][SERVED].get("macro_f1"),
        most_frequent=most_frequent(examples, asked.kind),
    )


def most_frequent(examples: pd.DataFrame, kind: Kind) -> MostFrequent:
    """The student's most frequent answer, and the share of rows with another label that get it.

    If a row's labels are the labels of its units in order, units are counted instead of rows.
    """
    given, true = ([labels_of(row) for row in examples[column]] for column in (SERVED, "label"))
    counted = MostFrequent.counted
    if columns.of(kind).ORDERED:
        given, true = ([labels_of(label) for row in rows for label in row] for rows in (given, true))
        counted = "parts of test rows"
    answer, rows = min(Counter(given).items(), key=lambda each: (-each[1], each[0]))
    others = [found == answer for found, label in zip(given, true, strict=True) if label != answer]
    blind = float(np.mean(others)) if others else None
    return MostFrequent(", ".join(answer), rows / len(given), blind, counted)


def _judged(examples: pd.DataFrame, kind: Kind) -> JudgedRows:
    slices = [name for name in examples.columns if examples[name].dtype == bool]
    return JudgedRows(
        counts=counts_of(examples, SERVED),
        groups=examples["group"].to_numpy(dtype=str),
        metric=deciding.of(kind).metric,
        tfidf=counts_of(examples, TFIDF) if f"{TFIDF}{_COUNTS}" in examples.columns else None,
        slices={name: examples[name].to_numpy(dtype=bool) for name in slices},
    )


def _unknown_champion(champion: Any, lacking: Sequence[str]) -> str:
    return (
        f"version {champion.version}, the champion, was not registered by a run (it has no tag {', '.join(lacking)}) "
        "and cannot be compared with; run the recipe that made it again, or give its alias to a version that a run "
        "registered: `kd rollback --to VERSION`"
    )
