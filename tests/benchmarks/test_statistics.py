"""The comparison's statistics: paired over rows and seeds, and no claim without its proof."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.claims import TEACHER, Claim, compared, judge
from benchmarks.seed_resampling import Contestants, compare
from tests.helpers.counting import row_counts, share

ROWS = 600
GROUPS = np.arange(ROWS).astype(str)


def right(share: float, seeds: int = 3, seed: int = 0, noise: float = 0.0) -> np.ndarray:
    """[S, N]; the same rows are hard for everybody with one `seed`, `noise` is what seeds add to the share."""
    random = np.random.default_rng(seed)
    hardness = random.random(ROWS)
    shares = share + noise * random.normal(size=(seeds, 1))
    return hardness[None, :] < shares


def found(**correct: np.ndarray) -> Contestants:
    return of(correct, GROUPS)


def of(correct: dict[str, np.ndarray], groups: np.ndarray) -> Contestants:
    counts = {name: row_counts(matrix) for name, matrix in correct.items()}
    return compare(counts, groups, share, 0.95, 2000, seed=0)


def test_values_are_means_over_seeds_and_rows() -> None:
    matrix = right(0.7, noise=0.05)
    result = found(a=matrix)
    assert result.values["a"] == pytest.approx(float(matrix.mean()))
    assert result.deviations["a"] == pytest.approx(float(matrix.mean(1).std(ddof=1)))
    interval = result.metric("a")
    assert interval.low < interval.value < interval.high


def test_differences_are_paired_row_by_row() -> None:
    """b is right wherever a is and on 3 % more: a difference that unpaired intervals of ±4 points would hide."""
    result = found(a=right(0.70), b=right(0.73))
    difference = result.difference("b", "a")
    assert difference.low > 0
    assert difference.high - difference.low < 0.04
    assert result.metric("a").high > result.metric("b").low
    assert result.difference("a", "b").value == pytest.approx(-difference.value)


def test_seeds_widen_the_interval_and_one_seed_does_not() -> None:
    steady = found(a=right(0.7, seeds=5)).metric("a")
    shaky = found(a=right(0.7, seeds=5, noise=0.15)).metric("a")
    single = found(a=right(0.7, seeds=1)).metric("a")
    assert shaky.high - shaky.low > 1.5 * (steady.high - steady.low)
    assert single.high - single.low == pytest.approx(steady.high - steady.low, rel=0.2)


def test_rows_of_one_group_are_drawn_together() -> None:
    matrix = np.repeat(np.random.default_rng(0).random((1, 60)) < 0.7, 10, axis=1)
    alone = of({"a": matrix}, GROUPS).metric("a")
    grouped = of({"a": matrix}, np.repeat(np.arange(60), 10)).metric("a")
    assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_a_contestant_without_seeds_is_paired_with_all_of_another_s() -> None:
    result = found(teacher=right(0.8, seeds=1), student=right(0.75, seeds=3))
    assert result.difference("teacher", "student").low > 0
    assert result.share("student", "teacher").value == pytest.approx(
        result.values["student"] / result.values["teacher"]
    )
    with pytest.raises(ValueError, match="cannot be paired"):
        found(a=right(0.7, seeds=2), b=right(0.7, seeds=3))


def test_the_p_value_is_small_for_a_difference_and_large_for_none() -> None:
    result = found(a=right(0.70), b=right(0.78), same=right(0.70), other=right(0.70)[:, ::-1])
    assert result.p_value("b", "a") < 0.01
    assert result.p_value("same", "a") == 1.0
    assert result.p_value("other", "a") > 0.2


def test_a_gap_is_closed_only_where_there_is_one() -> None:
    result = found(alone=right(0.6), teacher=right(0.8, seeds=1), student=right(0.75), peer=right(0.605, seed=3))
    closed = result.gap_closed("student", "alone", "teacher")
    assert closed is not None
    assert 0.5 < closed.low < closed.value < closed.high < 1.0
    assert result.gap_closed("student", "alone", "peer") is None


CLAIMS = (
    Claim("good", "poor", "better", ""),
    Claim("poor", "good", "better", ""),
    Claim("good", "twin", "better", ""),
    Claim("twin", "good", "not worse", ""),
    Claim("poor", "good", "not worse", ""),
    Claim("good", TEACHER, "share", ""),
    Claim("poor", TEACHER, "share", ""),
    Claim("good", "absent", "better", ""),
)


def test_verdicts() -> None:
    """Shown, contradicted, or neither; what was not run is not judged."""
    contestants = {"good": right(0.80), "twin": right(0.80), "poor": right(0.70), TEACHER: right(0.80, seeds=1)}
    verdicts = [(each.claim, each.verdict) for each in judge(found(**contestants), CLAIMS)]
    assert verdicts == [
        ("good > poor", "shown"),
        ("poor > good", "contradicted"),
        ("good > twin", "not shown"),
        ("twin ≥ good", "shown"),
        ("poor ≥ good", "contradicted"),
        (f"good ≥ 99% of {TEACHER}", "shown"),
        (f"poor ≥ 99% of {TEACHER}", "contradicted"),
    ]


def test_many_claims_at_once_need_more_proof_each() -> None:
    """A difference that one test would take for real is not shown among ten without a difference."""
    random = np.random.default_rng(4)
    base = random.random((1, ROWS)) < 0.7
    better = base.copy()
    better[0, np.flatnonzero(~base[0])[:10]] = True
    better[0, np.flatnonzero(base[0])[:1]] = False
    single = judge(found(a=base, b=better), [Claim("b", "a", "better", "")])
    others = {f"n{index}": random.random((1, ROWS)) < 0.7 for index in range(10)}
    claims = [Claim("b", "a", "better", ""), *(Claim(name, "a", "better", "") for name in others)]
    many = judge(found(a=base, b=better, **others), claims)
    assert single[0].verdict == "shown"
    assert many[0].verdict == "not shown"
    assert (many[0].p_value or 0) > (single[0].p_value or 0)


def test_agreement_on_few_rows_shows_nothing() -> None:
    few = np.ones((1, 60), dtype=bool)
    claim = [Claim("b", "a", "not worse", ""), Claim("b", "a", "share", "")]
    verdicts = [each.verdict for each in judge(of({"a": few, "b": few}, np.arange(60)), claim)]
    assert verdicts == ["not shown", "not shown"]


def test_a_user_s_claims() -> None:
    assert [claim.text for claim in compared(["tmkd>mkd"])] == ["tmkd > mkd"]
