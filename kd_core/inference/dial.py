"""The speed dial of a model: the disagreement that may be had for a wish, and the exit thresholds that keep to it.

Calibration (kd_core.inference.calibration) tests one family of points, from the safest to the fastest, and records it
here with counts and bounds. So any wish is answered from the record, without data and without statistics
(docs/methods.md §2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated

from pydantic import Field

from kd_core.config.base import Count, Fraction, Section

Confidence = Annotated[float, Field(gt=0.5, lt=1)]

WISHES = (0.0, 0.0025, 0.005, 0.01, 0.02, 0.05)
"""Disagreements with the full model that a record tabulates; any other can be asked for."""


class Point(Section):
    """One member of the family, and what it does to the calibration rows that it was tested on."""

    thresholds: tuple[Fraction, ...]
    """[E − 1], one an early exit; all 0: the full model."""
    leaves: tuple[int, ...]
    """[E], rows that are answered at each exit."""
    disagreements: int
    """Rows whose answer differs from the full model's."""
    bound: Fraction
    """Upper bound of the share of texts that disagree, at the dial's confidence, this point taken by itself."""

    @property
    def shares(self) -> tuple[float, ...]:
        """[E], share of the rows that are answered at each exit."""
        rows = sum(self.leaves)
        return tuple(count / rows for count in self.leaves)


Cost = Callable[[Point], float] | Sequence[float]
"""Mean seconds of a text at a point; or [E] the seconds of a text that leaves at each exit."""


class Wish(Section):
    """A line of the table for people: a wish and what is given for it."""

    max_disagreement: Fraction
    thresholds: tuple[Fraction, ...]
    bound: Fraction
    mean_layers: float


class Dial(Section):
    """The family, from the safest point, the full model, to the fastest."""

    confidence: Confidence
    """Of each wish by itself: the share of calibrations in which the true disagreement does not exceed it, at least."""
    layers: tuple[int, ...]
    """[E], the layers (1-based) that have an exit; the last is the full model."""
    rows: Count
    """Calibration rows that the points were tested on: one a near-duplicate group."""
    design_rows: int
    """Further rows that shaped the family and tested nothing."""
    points: tuple[Point, ...]
    wishes: tuple[Wish, ...] = ()

    def at(self, max_disagreement: float, cost: Cost | None = None) -> Point:
        """The fastest point whose disagreement with the full model is proven not to exceed the wish.

        Points are passed from the safest on until the first whose bound exceeds the wish (fixed-sequence testing). So
        the true disagreement is within the wish at the dial's confidence, whatever the number of points; and a looser
        wish never gives a slower point. The full model where the sample supports nothing faster.

        :param cost: what fast means; none: layers, of which no later point takes more
        """
        passed = 1
        while passed < len(self.points) and self.points[passed].bound <= max_disagreement:
            passed += 1
        if cost is None:
            return self.points[passed - 1]
        return min(self.points[:passed], key=lambda point: mean_seconds(point, cost))

    def mean_layers(self, point: Point) -> float:
        """Layers that a text passes on average."""
        return mean_seconds(point, self.layers)

    def proven(self, point: Point) -> float:
        """The smallest wish for which `at` passes as far as `point`."""
        return max(each.bound for each in self.points[: self.points.index(point) + 1])

    def tabulated(self) -> Dial:
        """The same with its table of wishes."""
        given = [(wish, self.at(wish)) for wish in WISHES]
        table = [
            Wish(max_disagreement=w, thresholds=p.thresholds, bound=p.bound, mean_layers=round(self.mean_layers(p), 4))
            for w, p in given
        ]
        return self.model_copy(update={"wishes": tuple(table)})


def mean_seconds(point: Point, cost: Cost) -> float:
    """What a text costs on average at `point`, in the unit of `cost`."""
    if callable(cost):
        return cost(point)
    return sum(share * seconds for share, seconds in zip(point.shares, cost, strict=True))
