"""Wishes for speed: the safest point of a dial that a latency at a percentile, or a throughput, allows.

What texts cost is measured where the model serves and given here; the dial knows where calibration rows leave. The
disagreement that the speed costs is told by the point (`bound`, `Dial.proven`), not limited.
"""

from __future__ import annotations

from collections.abc import Sequence

from kd_core.inference.calibration import upper_bound
from kd_core.inference.dial import Cost, Dial, Point, mean_seconds
from kd_core.runtime.errors import ParamsError


def within_latency(dial: Dial, seconds: Sequence[float], limit: float, percentile: float) -> Point:
    """The safest point at which a text is answered within `limit` seconds, in a share `percentile` of all cases.

    Later points answer more texts early. They are tested from the fastest back to the safest until the first whose
    share of slower texts may exceed 1 − percentile, at the dial's confidence: the same test as for disagreement.

    :param seconds: [E], what a text takes that leaves at each exit
    :param percentile: for instance 0.99
    :raises ParamsError: no point is that fast, or the sample is too small to show it
    """
    slow = [place for place, value in enumerate(seconds) if value > limit]
    found = None
    for point in reversed(dial.points):
        late = sum(point.leaves[place] for place in slow)
        if slow and upper_bound(late, dial.rows, dial.confidence) > 1 - percentile:
            break
        found = point
    if found is None:
        raise ParamsError(
            f"{limit * 1000:g} ms for {percentile:.1%} of the texts: not shown for any exit thresholds on "
            f"{dial.rows:,} calibration rows; allow more time, or a smaller percentile"
        )
    return found


def with_throughput(dial: Dial, cost: Cost, texts_per_second: float) -> Point:
    """The safest point that answers so many texts a second on average, as the calibration rows are.

    :raises ParamsError: no point is that fast
    """
    for point in dial.points:
        if mean_seconds(point, cost) * texts_per_second <= 1:
            return point
    fastest = 1 / min(mean_seconds(point, cost) for point in dial.points)
    raise ParamsError(f"{texts_per_second:g} texts/s: the fastest exit thresholds answer {fastest:.1f}")
