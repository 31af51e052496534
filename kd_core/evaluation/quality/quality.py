"""Metrics of the models on the test rows, their intervals, and the share of the gap to the teacher that was closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_core.config.data import Kind
from kd_core.config.evaluation import EvaluateParams
from kd_core.evaluation.names import ADAPTIVE, TRUNK
from kd_core.evaluation.statistics.intervals import Interval
from kd_core.evaluation.statistics.resampling import Resampled, resample
from kd_core.runtime.arrays import Booleans, Floats
from kd_core.tasks import decide, metrics
from kd_core.tasks.units import Units

TEACHER = "teacher:"
ALONE, FROZEN, TFIDF = "alone", "frozen", "tfidf"


@dataclass(frozen=True)
class Answers:
    """N test rows and each model's answers to them."""

    targets: Units
    """Gold, in the form of the task's kind."""
    groups: npt.NDArray[np.str_]
    """[N], near-duplicate group."""
    probabilities: Mapping[str, Units]
    """Model → [ΣU, C]."""
    kind: Kind

    @property
    def main_metric(self) -> str:
        """Name of the metric that is computed from `counts`."""
        return decide.of(self.kind).MAIN_METRIC

    def counts(self, model: str) -> Floats:
        """[N, K], counts from which `metric` computes the main metric."""
        kind = decide.of(self.kind)
        return kind.counts(kind.decisions(self.probabilities[model]), self.targets)

    def metric(self, sums: Floats) -> Floats:
        """The main metric: sums of counts, [..., K] → [...]."""
        return decide.of(self.kind).metric(sums)

    @property
    def best_teacher(self) -> str:
        """The teacher with the best main metric; the first by name if several are equal."""
        teachers = sorted(name for name in self.probabilities if name.startswith(TEACHER))
        return max(teachers, key=lambda name: float(self.metric(self.counts(name).sum(0))))


def resampled(answers: Answers, params: EvaluateParams) -> Resampled:
    """The main metric of every model under the same resamples of groups."""
    counts = {name: answers.counts(name) for name in answers.probabilities}
    return resample(counts, answers.groups, answers.metric, params.resamples, params.seed)


def of_models(answers: Answers, found: Resampled, confidence: float) -> dict[str, dict[str, Any]]:
    """Model → its metrics by name, and the main metric's `_interval`: [low, high] by near-duplicate group."""
    models: dict[str, dict[str, Any]] = {}
    for name, probabilities in answers.probabilities.items():
        interval = found.metric(name).interval(confidence)
        numbers = metrics.of(answers.kind).quality(probabilities, answers.targets)
        models[name] = {**numbers, f"{answers.main_metric}_interval": [interval.low, interval.high]}
    return models


def differences(best_teacher: str, found: Resampled, confidence: float) -> dict[str, Interval]:
    """The paired differences in the main metric on which the conclusions rest."""
    pairs = {
        "best_teacher_minus_alone": (best_teacher, ALONE),
        "trunk_minus_alone": (TRUNK, ALONE),
        "adaptive_minus_alone": (ADAPTIVE, ALONE),
        "trunk_minus_best_teacher": (TRUNK, best_teacher),
        "adaptive_minus_trunk": (ADAPTIVE, TRUNK),
    }
    return {name: found.difference(first, second).interval(confidence) for name, (first, second) in pairs.items()}


def gap_closed(best_teacher: str, found: Resampled, confidence: float) -> tuple[dict[str, Any] | None, str]:
    """(student − alone) ÷ (best teacher − alone) in the main metric, and the finding in words.

    There is a gap only if the teacher is better than the student alone by more than chance: the interval of their
    difference must lie above zero. Otherwise the result is None with the reason.

    :returns: {value, interval, adaptive, adaptive_interval} and a sentence; `value` is the full student's, `adaptive`
        that with early exits
    """
    gap = found.difference(best_teacher, ALONE).interval(confidence)
    named = f"the best teacher, {best_teacher.removeprefix(TEACHER)},"
    shown = f"{_points(gap.value)} points, {confidence:.0%} interval {_points(gap.low)} to {_points(gap.high)}"
    if gap.low <= 0:
        return None, f"{named} is not clearly better than the student alone ({shown}), so there is no gap to close"
    value, adaptive = (found.gap_closed(name, ALONE, best_teacher).interval(confidence) for name in (TRUNK, ADAPTIVE))
    closed = {
        "value": value.value,
        "interval": [value.low, value.high],
        "adaptive": adaptive.value,
        "adaptive_interval": [adaptive.low, adaptive.high],
    }
    return closed, f"{named} is better than the student alone ({shown}); the student closes {value.value:.0%} of it"


def of_slices(answers: Answers, slices: Mapping[str, Booleans]) -> dict[str, dict[str, Any]]:
    """Slice → rows and the main metric of the best teacher, of the student in full and with exits, and of it alone."""
    names = (answers.best_teacher, TRUNK, ADAPTIVE, ALONE)
    return {
        part: {
            "rows": int(mask.sum()),
            answers.main_metric: {name: float(answers.metric(answers.counts(name)[mask].sum(0))) for name in names},
        }
        for part, mask in slices.items()
    }


def _points(share: float) -> str:
    return f"{share * 100:+.1f}"
