"""Wishes for speed: the safest point of a dial that reaches a latency at a percentile, or a throughput.

The caller gives the time of each text, measured where the model serves. The disagreement that the speed costs is
reported (`Dial.promise`) but not limited. The more demanding of two wishes never gets a safer point.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, exp, floor, inf, lgamma, log, log1p

import numpy as np

from kd_core.runtime.arrays import Floats
from kd_core.runtime.errors import ParamsError
from kd_core.serving.exits.dial import Dial, Point

Limits = tuple[float, ...]
"""[E − 1] exit thresholds."""

PERCENTILE = 0.99
"""Default percentile of a latency."""


def within_latency(dial: Dial, seconds: Callable[[Limits], Floats], milliseconds: float, percentile: float) -> Point:
    """The safest point at which a share `percentile` of texts is answered within `milliseconds`.

    A point counts if the exact binomial test shows, at the dial's confidence, that at most a share 1 − percentile of
    texts like the N given ones is slower.

    :param seconds: exit thresholds → [N], the time of each text
    :param percentile: for instance 0.99
    :raises ParamsError: no point is that fast, N texts cannot show it, or the limit or percentile is out of range
    """
    _check_positive(milliseconds, "maximum latency")
    if not 0 < percentile < 1:
        raise ParamsError(f"latency percentile {percentile:g}: it is a share of texts between 0 and 1, such as 0.99")
    found = [np.sort(seconds(point.thresholds)) for point in dial.points]
    slower = _slower(len(found[0]), percentile, dial.confidence)
    if slower < 0:
        raise ParamsError(
            f"a latency for {percentile:.1%} of the texts takes more calibration texts than {len(found[0]):,} to show "
            f"at {dial.confidence:.0%} confidence; state a smaller percentile"
        )
    shown = [float(each[-1 - slower]) for each in found]
    fastest = f"{floor(min(shown) * 1e5 + 1) / 100:.2f} ms for {percentile:.1%} of the texts"
    return _safest(dial, shown, milliseconds / 1000, f"maximum latency {milliseconds:g} ms: the fastest is {fastest}")


def with_throughput(dial: Dial, seconds: Callable[[Limits], float], texts_per_second: float) -> Point:
    """The safest point that answers `texts_per_second`.

    :param seconds: exit thresholds → mean time of a text
    :raises ParamsError: no point is that fast, or `texts_per_second` is not positive
    """
    _check_positive(texts_per_second, "minimum throughput")
    found = [seconds(point.thresholds) for point in dial.points]
    fastest = ceil(10 / min(found) - 1) / 10
    said = f"minimum throughput {texts_per_second:g} texts/s: the fastest is {fastest:,}"
    return _safest(dial, found, 1 / texts_per_second, said)


def _check_positive(value: float, name: str) -> None:
    if not 0 < value < inf:
        raise ParamsError(f"{name} {value:g}: it is a number above 0")


def _slower(rows: int, percentile: float, confidence: float) -> int:
    """The most of `rows` texts that may be slower if a share 1 − percentile is to be shown; −1: too few texts.

    The binomial distribution is computed here because serving does not require scipy.
    """
    chance = 0.0
    for late in range(rows + 1):
        ways = lgamma(rows + 1) - lgamma(late + 1) - lgamma(rows - late + 1)
        chance += exp(ways + late * log1p(-percentile) + (rows - late) * log(percentile))
        if chance > 1 - confidence:
            return late - 1
    return rows


def _safest(dial: Dial, seconds: list[float], limit: float, otherwise: str) -> Point:
    for point, each in zip(dial.points, seconds, strict=True):
        if each <= limit:
            return point
    raise ParamsError(f"{otherwise} on this machine, by its timings")
