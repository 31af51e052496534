"""Calibration of the dial: which exit thresholds keep a stated disagreement with the full model (docs/methods.md §2).

It needs no labels, only whether an early answer differs from the full model's. One family of threshold vectors is
ordered from the safest to the fastest, independently of the rows that test it. Each point gets the exact binomial
(Clopper–Pearson) upper bound of its disagreement. A wish goes along the family as far as the bounds allow (Learn then
Test, Angelopoulos et al. 2021, with fixed-sequence testing).
"""

from __future__ import annotations

import numpy as np
from scipy.special import betaincinv

from kd_core.runtime.arrays import Booleans, Floats
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.exits.dial import Dial, Point
from kd_core.serving.exits.thresholds import Uncertainties, first_exit

Family = Floats
"""[M, E − 1] threshold vectors; no entry decreases from one to the next, so no text leaves later."""

FAMILY_POINTS = 128
DESIGN_SHARE = 0.25
"""Share of the rows that shape the family if there are several early exits, whose thresholds must be balanced."""

_SMALLEST = 1e-4
_DIGITS = 6
_SEED = 0


def fit_dial(uncertainty: Uncertainties, disagrees: Booleans, layers: tuple[int, ...], confidence: float) -> Dial:
    """The dial that N independent calibration rows support.

    With one early exit the family is a fixed grid and all rows test it. With several, a random quarter of the rows
    shapes it, so that one overconfident exit does not hold back the others; the other rows test it.

    :param uncertainty: [N, E − 1], uncertainty of each early exit's answer, in [0, 1]
    :param disagrees: [N, E − 1], whether that answer differs from the full model's
    :param layers: [E], the layers that have an exit
    :param confidence: confidence of each wish, e.g. 0.95
    :raises InvalidDataError: there is no row
    """
    if len(uncertainty) == 0:
        raise InvalidDataError("the calibration split is empty: exits cannot be calibrated; set data.reference.split")
    order = np.random.default_rng(_SEED).permutation(len(uncertainty))
    design = order[: int(len(order) * DESIGN_SHARE)] if len(layers) > 2 else order[:0]
    tested = order[len(design) :]
    points = [
        _tested(vector, uncertainty[tested], disagrees[tested], confidence)
        for vector in family(uncertainty[design], disagrees[design])
    ]
    full = Point(
        thresholds=(0.0,) * (len(layers) - 1),
        leaves=(0,) * (len(layers) - 1) + (len(tested),),
        disagreements=0,
        bound=0.0,  # by definition, without a test
    )
    return Dial(confidence=confidence, layers=layers, rows=len(tested), design_rows=len(design), points=(full, *points))


def family(uncertainty: Uncertainties, disagrees: Booleans) -> Family:
    """The threshold vectors to test, from the safest to the fastest, without the full model.

    Step s gives each exit the threshold at which it alone disagrees on s of the design rows, linear in between: the
    s-th smallest uncertainty among the rows on which it disagrees. Without design rows all exits have one threshold,
    on a grid. In both cases the steps are geometric, so that they are small for small wishes.

    :param uncertainty: [D, E − 1] of the design rows
    :param disagrees: [D, E − 1]
    """
    early = uncertainty.shape[1]
    if early == 0:
        return np.zeros((0, 0))
    if len(uncertainty) == 0:
        grid = np.geomspace(_SMALLEST, 1, FAMILY_POINTS)
        return np.asarray(np.repeat(grid.round(_DIGITS)[:, None], early, axis=1), dtype=np.float64)
    most = disagrees.sum(0).max() + 1
    steps = np.geomspace(1 / FAMILY_POINTS, most, FAMILY_POINTS)
    thresholds = [_losing(steps, uncertainty[:, exit], disagrees[:, exit]) for exit in range(early)]
    return np.asarray(np.stack(thresholds, axis=1).round(_DIGITS), dtype=np.float64)


def _losing(steps: Floats, uncertainty: Uncertainties, disagrees: Booleans) -> Floats:
    """[M], the thresholds at which one exit disagrees on `steps` rows; 1 beyond all rows on which it disagrees."""
    lost = np.sort(uncertainty[disagrees]).astype(np.float64)
    knots = np.concatenate([[0.0], lost, [1.0]])
    return np.asarray(np.interp(steps, np.arange(len(knots)), knots), dtype=np.float64)


def _tested(thresholds: Floats, uncertainty: Uncertainties, disagrees: Booleans, confidence: float) -> Point:
    exits = first_exit(uncertainty, thresholds.tolist())
    differs = np.concatenate([disagrees, np.zeros((len(disagrees), 1), dtype=bool)], axis=1)
    count = int(differs[np.arange(len(exits)), exits].sum())
    return Point(
        thresholds=tuple(thresholds.tolist()),
        leaves=tuple(np.bincount(exits, minlength=differs.shape[1]).tolist()),
        disagreements=count,
        bound=upper_bound(count, len(exits), confidence),
    )


def upper_bound(count: int, rows: int, confidence: float) -> float:
    """The largest rate that `count` of `rows` does not reject: P(Binomial(rows, rate) ≤ count) = 1 − confidence.

    It is one-sided and exact (Clopper and Pearson 1934): the bound is at most a wish exactly if the binomial test
    rejects that the true rate exceeds the wish.
    """
    return 1.0 if count == rows else float(betaincinv(count + 1, rows - count, confidence))
