"""How good the models are on the test rows, how sure that is, and how much of the gap to the teacher was closed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from kd_core.config.data import Kind
from kd_core.config.evaluation import EvaluateParams
from kd_core.evaluation.names import ADAPTIVE, TRUNK
from kd_core.evaluation.statistics.intervals import Floats, Interval, around, mean_interval, resample_means
from kd_core.tasks.decisions import MAIN_METRIC, Integers, row_scores
from kd_core.tasks.metrics import quality

Probabilities = npt.NDArray[np.floating]
Booleans = npt.NDArray[np.bool_]

TEACHER = "teacher:"
ALONE, TFIDF = "alone", "tfidf"


@dataclass(frozen=True)
class Answers:
    """N test rows and each model's answers to them."""

    targets: Integers
    """[N], index of the label; multi-label [N, C], 1 where a label applies."""
    groups: npt.NDArray[np.str_]
    """[N], near-duplicate group."""
    probabilities: Mapping[str, Probabilities]
    """Model → [N, C]."""
    kind: Kind = "classification"

    @property
    def main_metric(self) -> str:
        """Name of the metric that is the mean of `scores`."""
        return MAIN_METRIC[self.kind]

    def scores(self, model: str) -> Floats:
        """[N], how right `model` answers each row: 1 or 0; multi-label anything between."""
        return row_scores(self.probabilities[model], self.targets, self.kind)

    @property
    def best_teacher(self) -> str:
        """The teacher with the best main metric; of equal ones the first by name."""
        teachers = sorted(name for name in self.probabilities if name.startswith(TEACHER))
        return max(teachers, key=lambda name: float(self.scores(name).mean()))


def of_models(answers: Answers, params: EvaluateParams) -> dict[str, dict[str, Any]]:
    """Model → its metrics by name, and that of the main one with `_interval`: [low, high] by near-duplicate group."""
    found: dict[str, dict[str, Any]] = {}
    for name, probabilities in answers.probabilities.items():
        interval = mean_interval(answers.scores(name), answers.groups, params.confidence, params.resamples, params.seed)
        numbers = quality(probabilities, answers.targets, answers.kind)
        found[name] = {**numbers, f"{answers.main_metric}_interval": [interval.low, interval.high]}
    return found


def differences(answers: Answers, params: EvaluateParams) -> dict[str, Interval]:
    """Paired differences in the main metric that the conclusions rest on, resampling whole groups."""
    best = answers.best_teacher
    pairs = {
        "best_teacher_minus_alone": (best, ALONE),
        "trunk_minus_alone": (TRUNK, ALONE),
        "adaptive_minus_alone": (ADAPTIVE, ALONE),
        "trunk_minus_best_teacher": (TRUNK, best),
        "adaptive_minus_trunk": (ADAPTIVE, TRUNK),
    }
    return {name: _difference(answers, first, second, params) for name, (first, second) in pairs.items()}


def _gain(answers: Answers, first: str, second: str) -> Floats:
    return answers.scores(first) - answers.scores(second)


def _difference(answers: Answers, first: str, second: str, params: EvaluateParams) -> Interval:
    gain = _gain(answers, first, second)
    return mean_interval(gain, answers.groups, params.confidence, params.resamples, params.seed)


def gap_closed(answers: Answers, params: EvaluateParams) -> tuple[dict[str, Any] | None, str]:
    """(student − alone) ÷ (best teacher − alone) in the main metric, and in words what was found.

    Only where the teacher is better than the student alone by more than chance, that is where the interval of their
    difference lies above zero; otherwise there is no gap to close, and None with the reason.

    :returns: {value, interval, adaptive, adaptive_interval}, `value` being the full student's, `adaptive` that with
        early exits; and a sentence
    """
    best = answers.best_teacher
    gap = _difference(answers, best, ALONE, params)
    named = f"the best teacher, {best.removeprefix(TEACHER)},"
    shown = f"{_points(gap.value)} points, {params.confidence:.0%} interval {_points(gap.low)} to {_points(gap.high)}"
    if gap.low <= 0:
        return None, f"{named} is not clearly better than the student alone ({shown}), so there is no gap to close"
    value, adaptive = (_ratio(answers, name, best, params) for name in (TRUNK, ADAPTIVE))
    found = {
        "value": value.value,
        "interval": [value.low, value.high],
        "adaptive": adaptive.value,
        "adaptive_interval": [adaptive.low, adaptive.high],
    }
    return found, f"{named} is better than the student alone ({shown}); the student closes {value.value:.0%} of it"


def _ratio(answers: Answers, model: str, best: str, params: EvaluateParams) -> Interval:
    both = np.stack([_gain(answers, model, ALONE), _gain(answers, best, ALONE)], axis=1)
    means = resample_means(both, answers.groups, params.resamples, params.seed)
    means = means[means[:, 1] > 0]  # nearly all: the gap's interval lies above zero
    return around(float(both[:, 0].mean() / both[:, 1].mean()), means[:, 0] / means[:, 1], params.confidence)


def of_slices(answers: Answers, slices: Mapping[str, Booleans]) -> dict[str, dict[str, Any]]:
    """Slice → rows, and the main metric on it of the best teacher, the student in full and with exits, and alone."""
    names = (answers.best_teacher, TRUNK, ADAPTIVE, ALONE)
    return {
        part: {
            "rows": int(mask.sum()),
            answers.main_metric: {name: float(answers.scores(name)[mask].mean()) for name in names},
        }
        for part, mask in slices.items()
    }


def _points(share: float) -> str:
    return f"{share * 100:+.1f}"
