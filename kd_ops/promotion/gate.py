"""The promotion gate: pure decisions over numbers, with the limits in the `gate` section of params.yaml.

A model becomes champion only if it holds absolute floors (the first version too) and, on the same test rows, is not
worse than the champion by more than a margin (paired non-inferiority, resampling near-duplicate groups).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from kd_core.config.evaluation import GateParams
from kd_core.evaluation.statistics.comparison import compare_slices, disagreement, paired_difference

Booleans = npt.NDArray[np.bool_]
Scores = Booleans | npt.NDArray[np.float64]
"""[N], how right each row is answered: whether it is, or where answers can be partly right, a value from 0 to 1."""
Groups = npt.NDArray[np.str_]


MINIMUM_GROUPS = 100
"""Groups of test rows that must be left where some were left out: fewer say too little to judge a model by."""

MEASURE_AGAIN = "run it with another `-S measure.round=N`; for the champion's timing, run its recipe so"
_OTHER_NAME = "register under another name (registry.name)"


class Verdict(StrEnum):
    """What happens to a challenger."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REJECT = "REJECT"


@dataclass(frozen=True)
class Speed:
    """A model's latency and what it can be compared by; None for what was not measured."""

    latency_ms: float | None
    """Median at batch 1."""
    relative: float | None
    """Latency ÷ that of the reference workload that was timed in turns with the model."""
    machine: str | None
    """Fingerprint of the machine."""


@dataclass(frozen=True)
class Measured:
    """What is known of a model apart from its single answers."""

    weights: str
    """Hash of the model's folder."""
    labels: tuple[str, ...]
    accuracy: float
    """Or what stands in for it: `metric`."""
    best_teacher_accuracy: float
    speedup: float | None
    """Throughput ÷ that of the slowest teacher at the largest measured batch."""
    speed: Speed
    kind: str = "classification"
    """Of the task."""
    metric: str = "accuracy"
    """The task's main metric, in a person's words."""


@dataclass(frozen=True)
class Champion:
    """The champion, and its answers on the challenger's test rows."""

    version: str
    weights: str
    labels: tuple[str, ...]
    scores: Scores
    speed: Speed
    kind: str = "classification"


@dataclass(frozen=True)
class Decision:
    """A verdict with its reasons in plain words and the numbers behind them."""

    verdict: Verdict
    reasons: tuple[str, ...]
    numbers: dict[str, float] = field(default_factory=dict)


def left_out(seen: Booleans, groups: Groups) -> Decision | None:
    """HOLD where so many test rows cannot be used that those left say too little; None where there are enough.

    :param seen: [N], rows that the challenger or the champion was trained on, whole groups
    :param groups: [N], near-duplicate group of each row
    """
    left = len(np.unique(groups[~seen]))
    if not seen.any() or left >= MINIMUM_GROUPS:
        return None
    few = f"only {left} groups of test rows are left to judge by, fewer than {MINIMUM_GROUPS}"
    return Decision(Verdict.HOLD, (f"{few}; bring test rows that no version was trained on", _seen_rows(seen)))


def with_left_out(decision: Decision, seen: Booleans) -> Decision:
    """The decision, saying on how many rows it rests and how many could not be used."""
    numbers = {**decision.numbers, "test_rows": float((~seen).sum()), "left_out": float(seen.sum())}
    reasons = (*decision.reasons, _seen_rows(seen)) if seen.any() else decision.reasons
    return Decision(decision.verdict, reasons, numbers)


def _seen_rows(seen: Booleans) -> str:
    return (
        f"{int(seen.sum()):,} of {len(seen):,} test rows were left out: this version or the champion was trained on "
        "them or on near-duplicates"
    )


def check_quality(gate: GateParams, model: Measured) -> list[str]:
    """The absolute floors of quality that `model` breaks, in plain words; empty if it holds them all."""
    broken = []
    if model.accuracy < gate.min_accuracy:
        broken.append(f"{model.metric} {model.accuracy:.1%} is below the floor of {gate.min_accuracy:.1%}")
    share = model.accuracy / model.best_teacher_accuracy if model.best_teacher_accuracy else 0.0
    if share < gate.min_share_of_best_teacher:
        floor = gate.min_share_of_best_teacher
        broken.append(f"it reaches {share:.1%} of the best teacher's {model.metric}; the floor is {floor:.1%}")
    return broken


def check_speed(gate: GateParams, model: Measured) -> list[str]:
    """The absolute floors of speed that `model` breaks, in plain words; empty if it holds them all."""
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


def decide(
    gate: GateParams,
    model: Measured,
    scores: Scores,
    groups: Groups,
    champion: Champion | None,
    slices: Mapping[str, Booleans] | None = None,
) -> Decision:
    """The verdict on `model`.

    :param scores: [N], how right the model answers each test row
    :param groups: [N], near-duplicate group of each test row
    :param champion: with `scores` [N] on the same rows in the same order; None for the first version
    :param slices: name → [N], which test rows belong to it
    """
    if champion is not None and champion.kind != model.kind:
        return Decision(Verdict.REJECT, (_kind_change(champion.kind, model.kind),))
    if champion is not None and set(champion.labels) != set(model.labels):
        return Decision(Verdict.REJECT, (_label_change(champion.labels, model.labels),))
    if broken := check_quality(gate, model):
        return Decision(Verdict.REJECT, tuple(broken))
    slow = check_speed(gate, model)
    if champion is None:
        first = Decision(Verdict.PROMOTE, ("first version, and it holds every absolute floor",))
        return _held_for_speed(slow, []) if slow else first
    if champion.weights == model.weights:
        same = f"identical: these are the weights of version {champion.version}, the champion"
        return Decision(Verdict.HOLD, (same,))
    quality = _compare(gate, scores, groups, champion)
    verdict, reasons = quality.verdict, [*quality.reasons]
    if verdict is Verdict.PROMOTE and (worse := _worse_slices(gate, scores, groups, champion, slices or {})):
        verdict, reasons = Verdict.HOLD, [*worse, *reasons]
    speed, slower = _compare_speed(gate, model.speed, champion.speed)
    if verdict is not Verdict.REJECT and (slow or slower):
        return _held_for_speed([*slow, *([speed] if slower else [])], reasons, quality.numbers)
    return Decision(verdict, (*reasons, speed), quality.numbers)


def _held_for_speed(slow: list[str], reasons: list[str], numbers: dict[str, float] | None = None) -> Decision:
    """HOLD: a timing says something of the moment too, and can be taken again; answers cannot."""
    again = f"speed not proven: {'; '.join(slow)}. If the machine was busy, measure again: {MEASURE_AGAIN}"
    return Decision(Verdict.HOLD, (again, *reasons), numbers or {})


def _worse_slices(
    gate: GateParams, scores: Scores, groups: Groups, champion: Champion, slices: Mapping[str, Booleans]
) -> list[str]:
    """Slices of at least 100 rows on which the challenger is worse than the margin, Holm-corrected."""
    compared = compare_slices(
        scores, champion.scores, groups, slices, margin=gate.margin, resamples=gate.resamples, seed=gate.seed
    )
    return [
        f"worse on slice {part.name}: {part.difference * 100:+.2f} points on {part.rows:,} rows"
        for part in compared
        if part.p_value < 1 - gate.confidence
    ]


def _compare(gate: GateParams, scores: Scores, groups: Groups, champion: Champion) -> Decision:
    """Paired comparison; `low` and `high` are one-sided bounds at the gate's confidence."""
    difference, low, high = paired_difference(
        scores, champion.scores, groups, confidence=2 * gate.confidence - 1, resamples=gate.resamples, seed=gate.seed
    )
    counts = disagreement(scores, champion.scores)
    detectable = counts.smallest_detectable(gate.confidence)
    numbers = {"difference": difference, "low": low, "high": high, "discordance": counts.discordance}
    numbers["detectable"] = detectable
    seen = (
        f"{difference * 100:+.2f} points against version {champion.version} on the same {len(scores):,} test rows "
        f"(one-sided {gate.confidence:.0%} bounds {low * 100:+.2f} and {high * 100:+.2f})"
    )
    margin = f"the margin of {gate.margin * 100:.2f} points"
    if low > 0:
        return Decision(Verdict.PROMOTE, (f"better: {seen}",), numbers)
    if high < -gate.margin:
        return Decision(Verdict.REJECT, (f"clearly worse, beyond {margin}: {seen}",), numbers)
    if detectable > gate.margin:
        smallest = f"the smallest difference this test could detect is {detectable * 100:.2f} points, above {margin}"
        return Decision(Verdict.HOLD, (f"underpowered: {smallest}", seen), numbers)
    if low > -gate.margin:
        return Decision(Verdict.PROMOTE, (f"not worse by more than {margin}: {seen}",), numbers)
    if high < 0:
        return Decision(Verdict.REJECT, (f"worse, and not shown to be within {margin}: {seen}",), numbers)
    return Decision(Verdict.HOLD, (f"not shown to be within {margin}: {seen}",), numbers)


def _compare_speed(gate: GateParams, model: Speed, champion: Speed) -> tuple[str, bool]:
    """What there is to say about speed, and whether the challenger breaks the bound.

    The two were timed in two runs, on a machine that others may have used: what each took relative to the reference
    workload of its own run is compared. Different machines are not: the floor on the speed-up over the teachers,
    measured side by side in one run, is what holds there.
    """
    if not model.relative or not champion.relative:
        return "speed not compared with the champion's: a relative latency is missing", False
    if model.machine is None or model.machine != champion.machine:
        return "speed not compared with the champion's: measured on another machine", False
    slowdown = model.relative / champion.relative
    text = (
        f"{slowdown:.2f}× the champion's latency (at most {gate.max_slowdown:.2f}×), each relative to the same "
        "reference workload"
    )
    return text, slowdown > gate.max_slowdown


def _kind_change(old: str, new: str) -> str:
    return f"the kind of task changed from {old} to {new}, so the champion cannot be compared: {_OTHER_NAME}"


def _label_change(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    return (
        f"the label set changed (gone: {', '.join(gone) or 'none'}; new: {', '.join(come) or 'none'}), so the champion "
        f"cannot be compared: {_OTHER_NAME}"
    )
