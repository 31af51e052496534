"""Bounds and paired comparison: known cases, coverage, groups instead of rows, Holm's correction."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kd_core.evaluation.statistics.comparison import (
    Pair,
    compare_slices,
    groups_needed,
    holm,
    smallest_detectable,
)
from kd_core.evaluation.statistics.intervals import Interval
from kd_core.evaluation.statistics.resampling import Resampled, resample
from tests.conftest import PROJECT
from tests.helpers.counting import entity_f1, row_counts, share

RESAMPLES = 4000


def pair(challenger: object, champion: object, groups: object) -> Pair:
    return Pair(row_counts(challenger), row_counts(champion), groups, share)


def difference(challenger: object, champion: object, groups: object, confidence: float = 0.95) -> Interval:
    return pair(challenger, champion, groups).difference(RESAMPLES, seed=0).interval(confidence)


def one(answers: object, groups: object, seed: int = 0) -> Resampled:
    return resample({"model": row_counts(answers)}, groups, share, RESAMPLES, seed)


def test_difference_of_known_answers() -> None:
    challenger = np.array([True] * 80 + [False] * 20)
    champion = np.array([True] * 70 + [False] * 30)
    found = difference(challenger, champion, np.arange(100))
    assert found.value == pytest.approx(0.10)
    assert 0.03 < found.low < 0.07
    assert 0.13 < found.high < 0.20


def test_difference_is_paired() -> None:
    """Models that agree nearly everywhere are told apart by the few rows on which they do not."""
    champion = np.random.default_rng(3).random(1000) < 0.6
    challenger = champion.copy()
    challenger[np.flatnonzero(~champion)[:20]] = True
    found = difference(challenger, champion, np.arange(1000))
    assert 0 < found.low < 0.02 < found.high
    unpaired = one(champion, np.arange(1000)).metric("model").interval(0.95)
    assert found.high - found.low < (unpaired.high - unpaired.low) / 2


@pytest.mark.parametrize("groups", [1, 5, 20, 60, 149, 400])
def test_agreement_on_few_groups_proves_little(groups: int) -> None:
    """Nobody differs: the bounds are those of Clopper and Pearson for no event in so many groups."""
    found = difference(np.ones(groups), np.ones(groups), np.arange(groups), confidence=0.9)
    exact = 1 - 0.05 ** (1 / groups)
    assert found.value == 0.0
    for bound in (-found.low, found.high):
        assert 0.99 * exact <= bound < min(1.0, 1.12 * exact)


def test_groups_are_resampled_not_rows() -> None:
    """A hundred rows copied ten times within their groups say no more than the hundred."""
    answers = np.random.default_rng(0).random(100) < 0.7
    copied = np.repeat(answers, 10)
    once, grouped, pretended = (
        one(values, groups).metric("model").interval(0.95)
        for values, groups in (
            (answers, np.arange(100)),
            (copied, np.repeat(np.arange(100), 10)),
            (copied, np.arange(1000)),
        )
    )
    assert grouped.value == once.value == pretended.value
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.1)
    assert grouped.high - grouped.low > 2.5 * (pretended.high - pretended.low)


def test_same_seed_same_draws() -> None:
    answers, groups = np.random.default_rng(1).random(500) < 0.8, np.arange(500) // 2
    first = one(answers, groups, seed=5)
    assert np.array_equal(first.draws["model"], one(answers, groups, seed=5).draws["model"])
    assert not np.array_equal(first.draws["model"], one(answers, groups, seed=6).draws["model"])


def test_draws_of_kinds_have_the_distribution_of_draws_of_groups() -> None:
    generator = np.random.default_rng(2)
    groups = generator.integers(0, 60, 200)
    values = (generator.random(200) < 0.5).astype(float)
    sums, sizes = (np.bincount(groups, weights=each, minlength=60) for each in (values, np.ones(200)))
    weights = generator.dirichlet(np.ones(int((sizes > 0).sum())), RESAMPLES)
    plain = weights @ sums[sizes > 0] / (weights @ sizes[sizes > 0])
    fast = one(values, groups).draws["model"]
    for quantile in (0.05, 0.5, 0.95):
        assert np.quantile(fast, quantile) == pytest.approx(np.quantile(plain, quantile), abs=0.006)


def test_intervals_cover_the_truth() -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for seed in range(300):
        answers = generator.random(300) < 0.8
        found = resample({"m": row_counts(answers)}, np.arange(300), share, 400, seed).metric("m").interval(0.9)
        covered += found.low <= 0.8 <= found.high
    assert 0.9 <= covered / 300 < 0.98


def test_a_ratio_of_sums_is_taken_of_the_resampled_sums() -> None:
    """F1 over entities: no mean of rows; a row without entities counts by what it was given wrongly."""
    counts = np.array([[2.0, 2, 2], [0, 1, 0], [1, 3, 3], [0, 0, 4]] * 50)
    found = resample({"m": counts}, np.arange(200), entity_f1, RESAMPLES, 0).metric("m").interval(0.95)
    assert found.value == pytest.approx(2 * 3 / (6 + 9))
    assert found.low < found.value < found.high
    better = counts + np.array([[0, 0, 0], [0, -1, 0], [1, 0, 0], [0, 0, 0]] * 50)
    gain = Pair(better, counts, np.arange(200), entity_f1).difference(RESAMPLES, 0).interval(0.95)
    assert gain.value == pytest.approx(2 * 4 / (5 + 9) - 2 * 3 / (6 + 9))
    assert 0 < gain.low < gain.value < gain.high


def test_coverage_of_a_ratio_s_difference() -> None:
    """One-sided bounds of the difference of two entity F1s hold in at least 95 % of small tests."""
    generator, rows, misses = np.random.default_rng(7), 150, 0
    for seed in range(200):
        true = generator.poisson(2, rows)
        models = [
            np.stack([generator.binomial(true, recall), true, true], axis=1).astype(float) for recall in (0.7, 0.8)
        ]
        low = Pair(models[0], models[1], np.arange(rows), entity_f1).difference(500, seed).interval(0.9).low
        misses += low > -0.1
    assert misses / 200 <= 0.05


def test_the_smallest_difference_is_the_quantile_of_the_standard_error() -> None:
    groups = 2000
    found = pair(np.arange(groups) % 10 != 0, np.arange(groups) % 10 != 1, np.arange(groups)).difference(RESAMPLES, 0)
    for confidence, quantile in ((0.95, 1.644854), (0.99, 2.326348), (0.8, 0.841621)):
        expected = quantile * (0.2 / groups) ** 0.5
        assert smallest_detectable(found, confidence) == pytest.approx(expected, rel=0.04)


def test_how_many_groups_would_be_enough() -> None:
    """Where 6 % of the answers differ, 1,000 groups have a power of 4 in 5 against a margin of 2 points."""
    groups = 500
    found = pair(np.arange(groups) % 100 >= 3, np.arange(groups) % 100 < 97, np.arange(groups)).difference(RESAMPLES, 0)
    assert groups_needed(found, groups, 0.95, 0.02) == pytest.approx(1000, rel=0.1)
    assert groups_needed(found, groups, 0.95, 0.01) > 3 * groups_needed(found, groups, 0.95, 0.02)


def test_holm() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_only_a_really_worse_slice_is_found() -> None:
    generator = np.random.default_rng(5)
    champion = generator.random(2000) < 0.85
    challenger = champion.copy()
    worse = np.arange(2000) < 200
    challenger[np.flatnonzero(worse & champion)[:60]] = False
    slices = {"worse": worse, "rest": ~worse, "small": np.arange(2000) < 99}
    both = pair(challenger, champion, np.arange(2000))
    found = {each.name: each for each in compare_slices(both, slices, 0.02, 2000, 0)}
    assert set(found) == {"worse", "rest"}
    assert found["worse"].difference == pytest.approx(-0.3)
    assert found["worse"].p_value < 0.01
    assert found["rest"].p_value == 1.0


def test_a_slice_of_three_groups_proves_nothing() -> None:
    """120 rows, all lost, but near-duplicates of each other: without an unseen group they would have no width."""
    groups = np.concatenate([np.repeat([0, 1, 2], 40), np.arange(3, 1003)])
    lost = groups < 3
    found = compare_slices(pair(~lost, np.ones(len(groups)), groups), {"lost": lost}, 0.02, 2000, 0)
    assert found[0].difference == -1.0
    assert found[0].p_value > 0.1


@pytest.mark.parametrize(("first", "second"), [([True], [True, False]), ([], [])])
def test_unequal_or_no_rows_are_refused(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"\[N, K\]"):
        difference(first, second, np.arange(len(first)))


def test_the_gate_needs_numpy_alone() -> None:
    code = (
        "import sys, kd_core.evaluation.statistics.comparison as c; "
        "assert not {'torch', 'transformers', 'sklearn', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)
