"""The speed dial of a model: which exit thresholds keep to a wished disagreement with the full model.

Calibration (kd_core.export.fit_dial) tests one family of points, from the safest to the fastest, and records it
here with counts and bounds. So any wish is answered from the record, without data or statistics
(docs/methods.md §2).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from kd_core.config.base import Count, Fraction, Section
from kd_core.runtime.errors import ParamsError
from kd_core.serving.exits.thresholds import Thresholds, per_exit

Confidence = Annotated[float, Field(gt=0.5, lt=1)]


class Point(Section):
    """One member of the family, and its effect on the calibration rows that tested it."""

    thresholds: tuple[Fraction, ...]
    """[E − 1], one for each early exit; all 0: the full model."""
    leaves: tuple[int, ...]
    """[E], rows answered at each exit."""
    disagreements: int
    """Rows whose answer differs from the full model's."""
    bound: Fraction
    """Upper bound of the share of texts that disagree, at the dial's confidence, for this point alone."""

    @property
    def shares(self) -> tuple[float, ...]:
        """[E], share of the rows answered at each exit."""
        rows = sum(self.leaves)
        return tuple(count / rows for count in self.leaves)


class Dial(Section):
    """The family, from the safest point, the full model, to the fastest."""

    confidence: Confidence
    """For each wish alone: the least share of calibrations in which the true disagreement does not exceed the wish."""
    layers: tuple[int, ...]
    """[E], the layers (1-based) that have an exit; the last is the full model."""
    rows: Count
    """Calibration rows that tested the points: one for each near-duplicate group."""
    design_rows: int
    """Other rows, which shaped the family and tested nothing."""
    points: tuple[Point, ...]

    def at(self, max_disagreement: float) -> Point:
        """The fastest point whose disagreement with the full model is proven not to exceed the wish.

        The search goes from the safest point to the first whose bound exceeds the wish (fixed-sequence testing). So
        the true disagreement is within the wish at the dial's confidence, whatever the number of points; and a looser
        wish never gives a slower point. If the sample supports nothing faster, this is the full model.

        :raises ParamsError: the wish is outside [0, 1]
        """
        if not 0 <= max_disagreement <= 1:
            raise ParamsError(
                f"maximum disagreement {max_disagreement}: it is a share of texts, from 0 (full model) to 1"
            )
        passed = 1
        while passed < len(self.points) and self.points[passed].bound <= max_disagreement:
            passed += 1
        return self.points[passed - 1]

    def mean_layers(self, point: Point) -> float:
        """Mean number of layers that a text passes."""
        return sum(share * layer for share, layer in zip(point.shares, self.layers, strict=True))

    def proven(self, point: Point) -> float:
        """The smallest wish for which `at` goes as far as `point`."""
        return max(each.bound for each in self.points[: self.points.index(point) + 1])

    def promise(self, thresholds: Thresholds) -> str:
        """What is proven, in words, of the point with these thresholds."""
        limits = per_exit(thresholds, len(self.layers) - 1)
        point = next(each for each in self.points if each.thresholds == limits)
        if not any(limits):
            return "the full model answers every text"
        return (
            f"at most {self.proven(point):.2%} of the answers differ from the full model's, at {self.confidence:.0%} "
            f"confidence; a text passes {self.mean_layers(point):.2f} of {self.layers[-1]} layers on average"
        )
