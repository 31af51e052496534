"""Timings that hold on a shared machine: ways take turns in every repeat, and ratios are paired within a repeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import bootstrap

_SIDE = 1024
"""Rows and columns of the matrices that the peak is measured with: large enough to fill every core's vector units."""
_PRODUCTS = 20

PEAK_FLOPS = _PRODUCTS * 2 * _SIDE**3
"""Floating-point operations of one `matmul_peak` call."""


@dataclass(frozen=True)
class Ratio:
    """How many times faster one way is than another: the median over repeats and its 95 % bootstrap interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f}× ({self.low:.2f} – {self.high:.2f})"


def interleaved(
    ways: Mapping[str, Callable[[], object]], repeats: int, before: Mapping[str, Callable[[], object]] | None = None
) -> dict[str, list[float]]:
    """Way → seconds of each repeat. All ways run once unmeasured; each repeat starts with another way.

    :param before: way → what it runs unmeasured at each of its turns, so that it finds the machine as it leaves it
        itself: threads of another library spin on for a while, and caches hold another model
    """
    for run in ways.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for repeat in range(repeats):
        start = repeat % len(names)
        for name in [*names[start:], *names[:start]]:
            if before:
                before[name]()
            began = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def speedup(seconds: Mapping[str, list[float]], way: str, reference: str) -> Ratio:
    """`reference`'s seconds ÷ `way`'s, paired by repeat; a single repeat has no interval."""
    ratios = np.array(seconds[reference]) / np.array(seconds[way])
    median = float(np.median(ratios))
    if len(ratios) < 2 or way == reference:
        return Ratio(median, median, median)
    found = bootstrap((ratios,), np.median, method="percentile", rng=0).confidence_interval
    return Ratio(median, float(found.low), float(found.high))


def matmul_peak(dtype: torch.dtype) -> Callable[[], object]:
    """One product of two large square matrices, to run among the ways; see `PEAK_FLOPS`."""
    left, right = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
    return lambda: [left @ right for _ in range(_PRODUCTS)]
