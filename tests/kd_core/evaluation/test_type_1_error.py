"""How often "not worse by more than 2 points" is said though it is not so: by exact enumeration, and by simulation.

Right or wrong answers in groups of one row: b groups where only the challenger is right, c where only the champion is,
n groups in all. The weights of these kinds are Dirichlet(b, n − b − c, c + 1) distributed, the one more being the group
that nobody saw; integrated numerically they tell how likely each (b, c) passes with R resamples.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import betainc, betaln
from scipy.stats import binom, norm

from kd_core.evaluation.statistics.comparison import Pair
from kd_core.runtime.arrays import Floats, Integers
from tests.helpers.counting import entity_f1, row_counts, share

MARGIN, LEVEL, RESAMPLES = 0.02, 0.05, 5000
GROUPS = sorted({*range(1, 40), *np.geomspace(40, 2000, 45).astype(int).tolist()})
NODES, WEIGHTS = np.polynomial.legendre.leggauss(48)


def p_values(n: int, b: Integers, c: Integers, margin: float = MARGIN) -> Floats:
    """P(W_b − W_c ≤ −margin) for arrays b and c of one shape."""
    spread = np.sqrt(c + 1.0) / n
    low = np.maximum(margin, (c + 1.0) / (n + 1) - 9 * spread)[..., None]
    high = np.maximum(low, np.minimum(1, (c + 1.0) / (n + 1) + 12 * spread + 12 / n)[..., None])
    x = (low + high) / 2 + (high - low) / 2 * NODES
    first, second = (c + 1.0)[..., None], (n - c + 0.0)[..., None]
    with np.errstate(divide="ignore", invalid="ignore"):
        density = np.exp((first - 1) * np.log(x) + (second - 1) * np.log1p(-x) - betaln(first, second))
        rest = betainc(np.maximum(b, 1)[..., None], np.maximum(n - b - c, 1e-9)[..., None], (x - margin) / (1 - x))
    inner = np.where((x - margin) / (1 - x) >= 1, 1.0, np.nan_to_num(rest))
    found = ((high - low) / 2 * np.nan_to_num(density) * inner * WEIGHTS).sum(-1)
    return np.where(b == 0, betainc(second[..., 0], first[..., 0], 1 - margin), found)


def passing(p: Floats) -> Floats:
    """Chance that R resamples let pass what has this p-value: so few of them lie at or below the margin."""
    rank = LEVEL * RESAMPLES - norm.ppf(0.99) * np.sqrt(LEVEL * RESAMPLES * (1 - LEVEL))
    found: Floats = binom.cdf(np.floor(rank), RESAMPLES, np.clip(p, 0, 1))
    return found


def promoted(n: int, only_champion: float, only_challenger: float) -> float:
    """Chance that a challenger with these shares of rows passes a test of n groups."""
    spread = 7 * np.sqrt(n * only_challenger)
    b = np.arange(max(0, int(n * only_challenger - spread)), min(n, int(n * only_challenger + spread)) + 1)
    edge = _last_passing(n, b)
    c = np.clip(edge[:, None] + np.arange(-4, 9), 0, np.maximum(n - b, 0)[:, None])
    chance = passing(p_values(n, np.broadcast_to(b[:, None], c.shape), c))
    share_c = only_champion / (1 - only_challenger)
    each = np.diff(binom.cdf(c, (n - b)[:, None], share_c), prepend=0.0, axis=1)
    return float((binom.pmf(b, n, only_challenger) * (each * chance).sum(1)).sum())


def _last_passing(n: int, b: Integers) -> Integers:
    """The largest c that passes beside each b; 0 where none does."""
    low, high = np.zeros_like(b), np.minimum(n - b, b + int(MARGIN * n))
    while (low < high).any():
        middle = (low + high + 1) // 2
        passes = p_values(n, b, middle) <= LEVEL
        low, high = np.where(passes, middle, low), np.where(passes, high, np.maximum(middle - 1, low))
    return low


@pytest.mark.parametrize(
    ("only_champion", "only_challenger"), [(0.02, 0.0), (0.025, 0.005), (0.05, 0.03), (0.12, 0.10)]
)
def test_a_model_at_the_margin_is_promoted_at_most_as_often_as_promised(
    only_champion: float, only_challenger: float
) -> None:
    sizes = range(1, 2001) if only_challenger == 0 else GROUPS  # one b only: all of them are quick
    errors = {n: promoted(n, only_champion, only_challenger) for n in sizes}
    assert max(errors.values()) <= LEVEL, max(errors, key=errors.__getitem__)
    assert max(errors.values()) > LEVEL / 2, "and it is no coward either"


@pytest.mark.parametrize(("n", "b", "c"), [(149, 0, 0), (200, 0, 0), (1200, 36, 36), (1200, 36, 42), (300, 5, 3)])
def test_the_bound_is_the_one_that_was_enumerated(n: int, b: int, c: int) -> None:
    """The resamples of the product agree with the integral."""
    first, second = np.ones(n), np.ones(n)
    first[:c], second[n - b :] = 0, 0
    found = Pair(row_counts(first), row_counts(second), np.arange(n), share).difference(40_000, 0)
    exact = float(p_values(n, np.array([b]), np.array([c]))[0])
    assert found.p_not_above(-MARGIN) == pytest.approx(exact, abs=0.006)


def test_a_usual_retraining_is_promoted() -> None:
    """The power of the default recipe: 1,200 rows, equally good models, 4 % or 6 % of the answers differ."""
    assert promoted(1150, 0.02, 0.02) > 0.9
    assert promoted(1150, 0.03, 0.03) > 0.75


@pytest.mark.parametrize("rows", [60, 150, 600])
def test_partly_right_answers_and_ratios_are_bounded_too(rows: int) -> None:
    """Few rows decide, and each by much: a quarter of the champion's labels, or entities, on 8 % of the rows."""
    generator, seeds, wrong = np.random.default_rng(rows), 300, np.zeros(2)
    for seed in range(seeds):
        lost = generator.random(rows) < 0.08
        scores = Pair(row_counts(1 - 0.25 * lost), row_counts(np.ones(rows)), np.arange(rows), share)
        true = np.full(rows, 4.0)
        champion = np.stack([true, true, true], axis=1)
        challenger = np.stack([true - lost, true, true], axis=1)
        entities = Pair(challenger, champion, np.arange(rows), entity_f1)
        wrong += [pair.difference(1000, seed).interval(0.9).low > -MARGIN for pair in (scores, entities)]
    assert (wrong / seeds <= LEVEL).all()
