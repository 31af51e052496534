"""Intervals and paired comparison: known cases, coverage, groups instead of rows, Holm's correction."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from kd_core.evaluation.statistics.comparison import compare_slices, disagreement, holm, paired_difference
from kd_core.evaluation.statistics.intervals import mean_interval, resample_means
from tests.conftest import PROJECT

SETTINGS = {"confidence": 0.95, "resamples": 2000, "seed": 0}


def test_difference_of_known_answers() -> None:
    challenger = np.array([True] * 80 + [False] * 20)
    champion = np.array([True] * 70 + [False] * 30)
    difference, low, high = paired_difference(challenger, champion, np.arange(100), **SETTINGS)
    assert difference == pytest.approx(0.10)
    assert 0.03 < low < 0.07
    assert 0.13 < high < 0.18


def test_difference_is_paired() -> None:
    """Models that agree nearly everywhere are told apart by the few rows on which they do not."""
    generator = np.random.default_rng(3)
    champion = generator.random(1000) < 0.6
    challenger = champion.copy()
    challenger[np.flatnonzero(~champion)[:20]] = True
    _, low, high = paired_difference(challenger, champion, np.arange(1000), **SETTINGS)
    assert 0 < low < 0.02 < high
    unpaired = mean_interval(champion, np.arange(1000), **SETTINGS)
    assert high - low < (unpaired.high - unpaired.low) / 2


def test_identical_models_do_not_differ() -> None:
    answers = np.array([True, False, True])
    assert paired_difference(answers, answers, np.arange(3), **SETTINGS) == (0.0, 0.0, 0.0)


def test_groups_are_resampled_not_rows() -> None:
    """A hundred rows copied ten times within their groups say no more than the hundred."""
    answers = np.random.default_rng(0).random(100) < 0.7
    once = mean_interval(answers, np.arange(100), **SETTINGS)
    copied = np.repeat(answers, 10)
    grouped = mean_interval(copied, np.repeat(np.arange(100), 10), **SETTINGS)
    pretended = mean_interval(copied, np.arange(1000), **SETTINGS)
    assert grouped.value == once.value == pretended.value
    assert grouped.high - grouped.low == pytest.approx(once.high - once.low, rel=0.1)
    assert grouped.high - grouped.low > 2.5 * (pretended.high - pretended.low)


def test_same_seed_same_interval() -> None:
    answers = np.random.default_rng(1).random(500) < 0.8
    groups = np.arange(500) // 2
    first = resample_means(answers, groups, 3000, seed=5)
    assert np.array_equal(first, resample_means(answers, groups, 3000, seed=5))
    assert not np.array_equal(first, resample_means(answers, groups, 3000, seed=6))


def test_draws_of_kinds_have_the_distribution_of_draws_of_groups() -> None:
    generator = np.random.default_rng(2)
    groups = generator.integers(0, 60, 200)
    values = (generator.random(200) < 0.5).astype(float)
    members = [values[groups == group] for group in np.unique(groups)]
    plain = []
    for _ in range(4000):
        chosen = [members[index] for index in generator.integers(0, len(members), len(members))]
        plain.append(np.concatenate(chosen).mean())
    fast = resample_means(values, groups, 4000, seed=0)
    for share in (0.05, 0.5, 0.95):
        assert np.quantile(fast, share) == pytest.approx(np.quantile(plain, share), abs=0.006)


def test_intervals_cover_the_truth() -> None:
    generator = np.random.default_rng(4)
    covered = 0
    for seed in range(300):
        answers = generator.random(300) < 0.8
        interval = mean_interval(answers, np.arange(300), confidence=0.9, resamples=400, seed=seed)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.84 < covered / 300 < 0.96


def test_disagreement_and_smallest_difference() -> None:
    counts = disagreement([True, True, False, False], [True, False, True, False])
    assert (counts.only_challenger, counts.only_champion, counts.discordance) == (1, 1, 0.5)
    for confidence, quantile in ((0.95, 1.644854), (0.99, 2.326348), (0.8, 0.841621)):
        assert counts.smallest_detectable(confidence) == pytest.approx(quantile * (0.5 / 4) ** 0.5, rel=1e-6)


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
    found = {s.name: s for s in compare_slices(challenger, champion, np.arange(2000), slices, 0.02, 2000, 0)}
    assert set(found) == {"worse", "rest"}
    assert found["worse"].difference == pytest.approx(-0.3)
    assert found["worse"].p_value < 0.01
    assert found["rest"].p_value == 1.0


@pytest.mark.parametrize(("first", "second"), [([True], [True, False]), ([], [])])
def test_unequal_or_no_rows_are_refused(first: list[bool], second: list[bool]) -> None:
    with pytest.raises(ValueError, match=r"\[N\]"):
        paired_difference(first, second, np.arange(len(first)), **SETTINGS)


def test_the_gate_needs_numpy_alone() -> None:
    code = (
        "import sys, kd_core.evaluation.statistics.comparison as c; "
        "assert not {'torch', 'transformers', 'sklearn', 'matplotlib', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=PROJECT)
