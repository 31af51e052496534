"""The promotion gate: pure functions from numbers to a verdict, with the limits in the `gate` section of params.yaml.

A model becomes champion only if it reaches absolute floors (the first version too) and, on the same test rows, is not
worse than the champion by more than a margin (paired non-inferiority, by near-duplicate group). It must also be within
the margin of the version from which losses are counted, so that many small losses do not add up to a large one.
"""

from __future__ import annotations

import math

import numpy as np

from kd_core.config.evaluation import GateParams
from kd_core.evaluation.statistics.comparison import Pair, compare_slices, groups_needed, smallest_detectable
from kd_core.runtime.arrays import Booleans
from kd_ops.promotion.evidence import Champion, Decision, JudgedRows, Measured, Origin, Speed, Verdict
from kd_ops.promotion.floors import MEASURE_AGAIN, check_quality, check_speed, check_test
from kd_ops.promotion.wording import bounds, points

_OTHER_NAME = "register under another name (registry.name)"


def decide(
    gate: GateParams, model: Measured, rows: JudgedRows, champion: Champion | None, origin: Origin | None = None
) -> Decision:
    """The verdict on `model`.

    :param champion: the champion, with its counts on the same rows in the same order; None for the first version
    :param origin: the version from which accepted losses are counted; None if that is the champion
    """
    if champion is not None and (changed := _other_task(model, champion)):
        return Decision(Verdict.REJECT, (changed,))
    if broken := check_quality(gate, model):
        return Decision(Verdict.REJECT, tuple(broken))
    if champion is not None and champion.weights == model.weights:
        same = f"identical: these are the weights of version {champion.version}, the champion"
        return Decision(Verdict.HOLD, (same,))
    doubts, slow = check_test(gate, model, rows), check_speed(gate, model)
    if champion is None:
        first = Decision(Verdict.PROMOTE, ("first version, and it holds every absolute floor",), proven=True)
        return _held([*doubts, *_speed_not_proven(slow)], first)
    quality = _compare(gate, rows, champion, origin)
    if quality.verdict is Verdict.PROMOTE:
        doubts += _worse_slices(gate, rows, champion)
    speed, slower = _compare_speed(gate, model.speed, champion.speed)
    if not slower:
        quality = _with_reasons(quality, [*quality.reasons, speed])
    return _held([*doubts, *_speed_not_proven([*slow, *([speed] if slower else [])])], quality)


def _held(doubts: list[str], found: Decision) -> Decision:
    """The decision, or HOLD if there are doubts; a REJECT stays a REJECT."""
    if not doubts or found.verdict is Verdict.REJECT:
        return found
    reasons = found.reasons if found.verdict is Verdict.HOLD or found.numbers else ()
    return Decision(Verdict.HOLD, (*doubts, *reasons), found.numbers)


def _with_reasons(found: Decision, reasons: list[str]) -> Decision:
    return Decision(found.verdict, tuple(reasons), found.numbers, found.proven)


def _speed_not_proven(slow: list[str]) -> list[str]:
    """Reasons for HOLD instead of REJECT: a timing depends on the moment and can be repeated; answers do not change."""
    if not slow:
        return []
    return [f"speed not proven: {'; '.join(slow)}. If the machine was busy, measure again: {MEASURE_AGAIN}"]


def with_left_out(decision: Decision, seen: Booleans) -> Decision:
    """The decision, with the number of rows that it rests on and of those that could not be used.

    :param seen: [N], rows on which the challenger, the champion or the origin of losses was trained
    """
    numbers = {**decision.numbers, "test_rows": float((~seen).sum()), "left_out": float(seen.sum())}
    reasons = decision.reasons
    if seen.any():
        reasons += (
            f"{int(seen.sum()):,} of {len(seen):,} test rows were left out: this version or one that it is compared "
            "with was trained on them or on near-duplicates",
        )
    return Decision(decision.verdict, reasons, numbers, decision.proven)


def _worse_slices(gate: GateParams, rows: JudgedRows, champion: Champion) -> list[str]:
    """Slices of at least 100 rows on which the challenger is worse by more than the margin, Holm-corrected."""
    pair = Pair(rows.counts, champion.counts, rows.groups, rows.metric)
    return [
        f"worse on slice {part.name}: {points(part.difference)} points on {part.rows:,} rows, beyond the margin of "
        f"{gate.margin * 100:.2f} points (p = {part.p_value:.3f})"
        for part in compare_slices(pair, rows.slices, gate.margin, gate.resamples, gate.seed)
        if part.p_value < 1 - gate.confidence
    ]


def _compare(gate: GateParams, rows: JudgedRows, champion: Champion, origin: Origin | None) -> Decision:
    """Paired comparison; `low` and `high` are one-sided bounds at the gate's confidence."""
    pair = Pair(rows.counts, champion.counts, rows.groups, rows.metric)
    difference = pair.difference(gate.resamples, gate.seed)
    found, groups = difference.interval(2 * gate.confidence - 1), len(np.unique(rows.groups))
    detectable = smallest_detectable(difference, gate.confidence)
    numbers = {"difference": found.value, "low": found.low, "high": found.high}
    numbers |= {"detectable": detectable, "groups": float(groups)}
    seen = (
        f"{points(found.value)} points against version {champion.version} on the same {len(rows.groups):,} test rows "
        f"in {groups:,} groups ({bounds(found, gate.confidence)})"
    )
    margin = f"the margin of {gate.margin * 100:.2f} points"
    needed = groups_needed(difference, groups, gate.confidence, gate.margin)
    enough = (
        f"about {needed:,} groups would show it in 4 of 5 tests of an equally good model (data.reference.split.test)"
    )
    if found.high < -gate.margin:
        return Decision(Verdict.REJECT, (f"clearly worse, beyond {margin}: {seen}",), numbers)
    if found.low > 0:
        return _against_origin(gate, rows, origin, Decision(Verdict.PROMOTE, (f"better: {seen}",), numbers, True))
    if detectable > gate.margin:
        smallest = f"the smallest difference this test could detect is {detectable * 100:.2f} points, above {margin}"
        return Decision(Verdict.HOLD, (f"underpowered: {smallest}; {enough}", seen), numbers)
    if found.low > -gate.margin:
        not_worse = Decision(Verdict.PROMOTE, (f"not worse by more than {margin}: {seen}",), numbers)
        return _against_origin(gate, rows, origin, not_worse)
    if found.high < 0:
        return Decision(Verdict.REJECT, (f"worse, and not shown to be within {margin}: {seen}",), numbers)
    return Decision(Verdict.HOLD, (f"not shown to be within {margin}: {seen}; {enough}",), numbers)


def _against_origin(gate: GateParams, rows: JudgedRows, origin: Origin | None, found: Decision) -> Decision:
    """Check a PROMOTE against the champion again, against the version from which losses are counted.

    A better model is promoted whatever was lost before, but losses are counted from it only if it recovered them.
    """
    if origin is None:
        return found
    pair = Pair(rows.counts, origin.counts, rows.groups, rows.metric)
    total = pair.difference(gate.resamples, gate.seed).interval(2 * gate.confidence - 1)
    numbers = {**found.numbers, "total_difference": total.value, "total_low": total.low}
    left = max(0.0, gate.margin - origin.spent)
    seen = f"{points(total.value)} points against version {origin.version} ({bounds(total, gate.confidence)})"
    if found.proven:
        made_good = math.isinf(origin.spent) or total.value >= origin.spent
        return Decision(found.verdict, (*found.reasons, f"accepted losses: {seen}"), numbers, made_good)
    if total.low > -left:
        return Decision(
            found.verdict, (*found.reasons, f"accepted losses stay within {_left(gate, left)}: {seen}"), numbers
        )
    why = (
        f"the losses accepted since version {origin.deleted or origin.version} would exceed {_left(gate, left)}: {seen}"
    )
    gone = (
        f"; version {origin.deleted} was deleted, so what was accepted since counts in full" if origin.deleted else ""
    )
    what = "; only a version that is shown to be better than the champion is promoted now"
    return Decision(Verdict.HOLD, (f"{why}{gone}{what}", *found.reasons), numbers)


def _left(gate: GateParams, left: float) -> str:
    margin = f"the margin of {gate.margin * 100:.2f} points"
    return margin if left == gate.margin else f"the {left * 100:.2f} points that are left of {margin}"


def _compare_speed(gate: GateParams, model: Speed, champion: Speed) -> tuple[str, bool]:
    """A sentence about speed, and whether the challenger breaks the limit.

    The two were timed in different runs, and other programs may have used the machine. So each latency is taken
    relative to the reference workload of its own run. Different machines are not compared: there, only the floor on the
    speed-up over the teachers holds, which is measured side by side in one run.
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


def _other_task(model: Measured, champion: Champion) -> str:
    """Why the model cannot be compared with the champion; empty if it can."""
    if champion.kind != model.kind:
        changed = f"the kind of task changed from {champion.kind} to {model.kind}"
    elif set(champion.labels) != set(model.labels):
        gone, come = (", ".join(sorted(a - b)) or "none" for a, b in _both_ways(champion.labels, model.labels))
        changed = f"the label set changed (gone: {gone}; new: {come})"
    else:
        return ""
    return f"{changed}, so the champion cannot be compared: {_OTHER_NAME}"


def _both_ways(old: tuple[str, ...], new: tuple[str, ...]) -> list[tuple[set[str], set[str]]]:
    return [(set(old), set(new)), (set(new), set(old))]
