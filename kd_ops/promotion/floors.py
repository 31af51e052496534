"""Absolute floors for every model, the first version too: quality, speed, enough test rows, no worse than TF-IDF."""

from __future__ import annotations

import numpy as np

from kd_core.config.evaluation import GateParams
from kd_core.evaluation.statistics.comparison import Pair
from kd_ops.promotion.evidence import JudgedRows, Measured
from kd_ops.promotion.wording import bounds, points

MINIMUM_GROUPS = 100
"""Least number of groups of test rows: fewer are too few to judge a model."""
NEARLY_CONSTANT = 0.95
"""A model counts as constant if this share of the rows with another label get its most frequent answer."""

MEASURE_AGAIN = "run it with another `-S measure.round=N`; for the champion's timing, run its recipe so"


def check_quality(gate: GateParams, model: Measured) -> list[str]:
    """The floors of quality that `model` misses, in plain words; empty if there are none."""
    broken = [_constant(model)]
    if model.accuracy < gate.min_accuracy:
        broken.append(f"{model.metric} {model.accuracy:.1%} is below the floor of {gate.min_accuracy:.1%}")
    if model.macro_f1 is not None and model.macro_f1 < gate.min_macro_f1:
        broken.append(
            f"macro-F1 {model.macro_f1:.1%} is below the floor of {gate.min_macro_f1:.1%}: some labels are hardly "
            "found; the report's list of worst labels names them"
        )
    share = model.accuracy / model.best_teacher_accuracy if model.best_teacher_accuracy else 0.0
    if share < gate.min_share_of_best_teacher:
        floor = gate.min_share_of_best_teacher
        broken.append(f"it reaches {share:.1%} of the best teacher's {model.metric}; the floor is {floor:.1%}")
    return [reason for reason in broken if reason]


def _constant(model: Measured) -> str:
    """Why the model counts as constant; empty if it does not."""
    found = model.most_frequent
    if found is None or found.share_of_others is None or found.share_of_others < NEARLY_CONSTANT:
        return ""
    return (
        f"nearly constant: it answers {found.answer!r} to {found.share:.1%} of the {found.counted}, and to "
        f"{found.share_of_others:.1%} of those with another label (limit {NEARLY_CONSTANT:.0%}); look at the curves of "
        "its training in the report"
    )


def check_speed(gate: GateParams, model: Measured) -> list[str]:
    """The floors of speed that `model` misses, in plain words; empty if there are none."""
    broken = []
    if model.speedup is None:
        broken.append("its speed-up over the slowest teacher was not measured")
    elif model.speedup < gate.min_speedup:
        broken.append(f"{model.speedup:.2f}× the slowest teacher's speed is below the floor of {gate.min_speedup:.2f}×")
    if gate.max_latency_ms is not None:
        if model.speed.latency_ms is None:
            broken.append("its latency was not measured")
        elif model.speed.latency_ms > gate.max_latency_ms:
            broken.append(f"median latency {model.speed.latency_ms:.2f} ms is above {gate.max_latency_ms:.2f} ms")
    return broken


def check_test(gate: GateParams, model: Measured, rows: JudgedRows) -> list[str]:
    """Why the test rows do not support `model`: there are too few groups, or it is shown to be worse than TF-IDF."""
    found, groups = [], len(np.unique(rows.groups))
    if groups < MINIMUM_GROUPS:
        found.append(
            f"only {groups} groups of test rows are left to judge by, fewer than {MINIMUM_GROUPS}; bring test rows "
            "that no version was trained on (data.reference.split.test)"
        )
    if rows.tfidf is not None and (worse := _worse_than_tfidf(gate, model, rows, rows.tfidf)):
        found.append(worse)
    return found


def _worse_than_tfidf(gate: GateParams, model: Measured, rows: JudgedRows, tfidf: np.ndarray) -> str:
    pair = Pair(rows.counts, tfidf, rows.groups, rows.metric)
    found = pair.difference(gate.resamples, gate.seed).interval(2 * gate.confidence - 1)
    if found.high >= 0:
        return ""
    return (
        f"worse than TF-IDF with logistic regression: {points(found.value)} points {model.metric} on the same test "
        f"rows ({bounds(found, gate.confidence)}); a larger student (student.layers, student.hidden) or more training "
        "may help, or the task needs no transformer"
    )
