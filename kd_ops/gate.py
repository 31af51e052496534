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
from kd_core.evaluation.comparison import compare_slices, disagreement, paired_difference

Booleans = npt.NDArray[np.bool_]
Scores = Booleans | npt.NDArray[np.float64]
"""[N], how right each row is answered: whether it is, or where answers can be partly right, a value from 0 to 1."""
Groups = npt.NDArray[np.str_]


_OTHER_NAME = "register under another name (registry.name)"


class Verdict(StrEnum):
    """What happens to a challenger."""

    PROMOTE = "PROMOTE"
    HOLD = "HOLD"
    REJECT = "REJECT"


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
    latency_ms: float | None
    """Median at batch 1."""
    machine: str | None
    """Fingerprint of the machine that measured it."""
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
    latency_ms: float | None
    machine: str | None
    kind: str = "classification"


@dataclass(frozen=True)
class Decision:
    """A verdict with its reasons in plain words and the numbers behind them."""

    verdict: Verdict
    reasons: tuple[str, ...]
    numbers: dict[str, float] = field(default_factory=dict)


def check_floors(gate: GateParams, model: Measured) -> list[str]:
    """The absolute floors that `model` breaks, in plain words; empty if it holds them all."""
    broken = []
    if model.accuracy < gate.min_accuracy:
        broken.append(f"{model.metric} {model.accuracy:.1%} is below the floor of {gate.min_accuracy:.1%}")
    share = model.accuracy / model.best_teacher_accuracy if model.best_teacher_accuracy else 0.0
    if share < gate.min_share_of_best_teacher:
        floor = gate.min_share_of_best_teacher
        broken.append(f"it reaches {share:.1%} of the best teacher's {model.metric}; the floor is {floor:.1%}")
    if model.speedup is None:
        broken.append("its speed-up over the slowest teacher was not measured")
    elif model.speedup < gate.min_speedup:
        broken.append(f"{model.speedup:.2f}× the slowest teacher's speed is below the floor of {gate.min_speedup:.2f}×")
    if gate.max_latency_ms is not None:
        if model.latency_ms is None:
            broken.append("its latency was not measured")
        elif model.latency_ms > gate.max_latency_ms:
            broken.append(f"median latency {model.latency_ms:.2f} ms is above {gate.max_latency_ms:.2f} ms")
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
    if broken := check_floors(gate, model):
        return Decision(Verdict.REJECT, tuple(broken))
    if champion is None:
        return Decision(Verdict.PROMOTE, ("first version, and it holds every absolute floor",))
    if champion.weights == model.weights:
        same = f"identical: these are the weights of version {champion.version}, the champion"
        return Decision(Verdict.HOLD, (same,))
    quality = _compare(gate, scores, groups, champion)
    speed, slower = _compare_speed(gate, model, champion)
    verdict, reasons = quality.verdict, [*quality.reasons, speed]
    if verdict is Verdict.PROMOTE and (worse := _worse_slices(gate, scores, groups, champion, slices or {})):
        verdict, reasons = Verdict.HOLD, [*worse, *reasons]
    if verdict is not Verdict.REJECT and slower:
        verdict, reasons = Verdict.REJECT, [f"too slow: {speed}", *reasons[:-1]]
    return Decision(verdict, tuple(reasons), quality.numbers)


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
    detectable = counts.smallest_detectable
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


def _compare_speed(gate: GateParams, model: Measured, champion: Champion) -> tuple[str, bool]:
    """What there is to say about speed, and whether the challenger breaks the bound.

    Latencies of different machines are not compared: the floor on the speed-up over the teachers, measured side by
    side in one run, is what holds there.
    """
    if model.latency_ms is None or champion.latency_ms is None:
        return "speed not compared with the champion's: a latency is missing", False
    if model.machine is None or model.machine != champion.machine:
        return "speed not compared with the champion's: measured on another machine", False
    slowdown = model.latency_ms / champion.latency_ms
    text = f"latency {model.latency_ms:.2f} ms, {slowdown:.2f}× the champion's (at most {gate.max_slowdown:.2f}×)"
    return text, slowdown > gate.max_slowdown


def _kind_change(old: str, new: str) -> str:
    return f"the kind of task changed from {old} to {new}, so the champion cannot be compared: {_OTHER_NAME}"


def _label_change(old: tuple[str, ...], new: tuple[str, ...]) -> str:
    gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    return (
        f"the label set changed (gone: {', '.join(gone) or 'none'}; new: {', '.join(come) or 'none'}), so the champion "
        f"cannot be compared: {_OTHER_NAME}"
    )
