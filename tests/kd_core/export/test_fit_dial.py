"""The dial keeps its promise: coverage over resplits, exact bounds, the full model where the sample is too small."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binomtest

from kd_core.export.fit_dial import family, fit_dial, upper_bound
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.exits.dial import Dial, Point
from kd_core.serving.exits.speed_wishes import _slower, with_throughput, within_latency
from kd_core.serving.exits.thresholds import first_exit

LAYERS = (1, 2, 3)
CONFIDENCE = 0.95


def outputs(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Stored outputs of two early exits: the less certain, the oftener they differ; the first is too sure of itself."""
    generator = np.random.default_rng(seed)
    hardness = generator.normal(size=(rows, 1)) + generator.normal(size=(rows, 2)) * [0.8, 0.4]
    doubt = 1 / (1 + np.exp(0.5 - 1.6 * hardness))
    disagrees = generator.random((rows, 2)) < 0.5 * doubt**2
    return (doubt ** [2, 1]).astype(np.float32), disagrees


def disagreement(uncertainty: np.ndarray, disagrees: np.ndarray, thresholds: tuple[float, ...]) -> float:
    exits = first_exit(uncertainty, thresholds)
    padded = np.column_stack([disagrees, np.zeros(len(exits), dtype=bool)])
    return float(padded[np.arange(len(exits)), exits].mean())


def test_coverage_over_resplits() -> None:
    """The true disagreement exceeds the wish in at most 5 % of 300 resplits; going by the sample alone, in far more."""
    uncertainty, disagrees = outputs(20_000)
    generator = np.random.default_rng(1)
    wishes = (0.01, 0.02, 0.05)
    exceeded, believed = np.zeros(3), np.zeros(3)
    layers = np.zeros(3)
    for _ in range(300):
        rows = generator.choice(len(uncertainty), size=900, replace=False)
        dial = fit_dial(uncertainty[rows], disagrees[rows], LAYERS, CONFIDENCE)
        for place, wish in enumerate(wishes):
            point = dial.at(wish)
            layers[place] += dial.mean_layers(point) / 300
            exceeded[place] += disagreement(uncertainty, disagrees, point.thresholds) > wish
            seen = [each for each in dial.points if each.disagreements <= wish * dial.rows]
            believed[place] += disagreement(uncertainty, disagrees, seen[-1].thresholds) > wish
    assert (exceeded / 300 <= 1 - CONFIDENCE).all(), exceeded
    assert (believed / 300 > 0.2).all(), "the test could fail"
    assert (layers < 2.8).all(), "a dial that always says full model would pass otherwise"


def test_half_a_percent_at_95_percent_needs_598_rows_without_a_disagreement() -> None:
    for rows, full in ((597, True), (598, False)):
        dial = fit_dial(np.full((rows, 1), 0.2, np.float32), np.zeros((rows, 1), bool), (1, 2), CONFIDENCE)
        point = dial.at(0.005)
        assert (point == dial.points[0]) == full
        assert point.thresholds == ((0.0,) if full else (1.0,))
        assert dial.mean_layers(point) == (2.0 if full else 1.0)
    one = np.zeros((598, 1), bool)
    one[0] = True
    dial = fit_dial(np.full((598, 1), 0.2, np.float32), one, (1, 2), CONFIDENCE)
    assert dial.at(0.005).leaves == (0, 598)


def test_the_bound_is_the_exact_binomial_test() -> None:
    for rows, count, wish in [(598, 0, 0.005), (597, 0, 0.005), (1000, 4, 0.01), (1000, 5, 0.01), (300, 300, 0.9)]:
        refuted = binomtest(count, rows, wish, alternative="less").pvalue <= 1 - CONFIDENCE
        assert (upper_bound(count, rows, CONFIDENCE) <= wish) == refuted
    assert upper_bound(7, 7, CONFIDENCE) == 1.0


def test_no_wish_is_the_full_model() -> None:
    dial = fit_dial(*outputs(5000), LAYERS, CONFIDENCE)
    assert dial.at(0.0).thresholds == (0.0, 0.0)
    assert dial.mean_layers(dial.at(0.0)) == 3.0


@pytest.mark.parametrize("seed", range(5))
def test_a_looser_wish_is_never_slower(seed: int) -> None:
    """In layers, for each single text."""
    uncertainty, disagrees = outputs(1500, seed)
    dial = fit_dial(uncertainty, disagrees, LAYERS, CONFIDENCE)
    exits = np.full(len(uncertainty), 2)
    for wish in np.linspace(0, 1, 60):
        now = first_exit(uncertainty, dial.at(wish).thresholds)
        assert (now <= exits).all()
        exits = now
    assert exits.max() < 2


def test_the_sequence_ends_at_the_first_point_that_fails() -> None:
    """A later point that passes by luck is not looked at: that is what keeps the confidence, however many points."""
    bounds = [0.0, 0.01, 0.05, 0.02]
    points = tuple(
        Point(thresholds=(at / 4,), leaves=(at, 10 - at), disagreements=0, bound=bound)
        for at, bound in enumerate(bounds)
    )
    dial = Dial(confidence=0.95, layers=(1, 2), rows=10, design_rows=0, points=points)
    assert dial.at(0.03) == points[1]
    assert dial.at(0.05) == points[3]
    assert dial.proven(points[3]) == 0.05
    assert dial.promise(points[3].thresholds).startswith("at most 5.00% of the answers differ")


@pytest.mark.parametrize("seed", range(3))
def test_the_family_goes_from_the_safest_to_the_fastest(seed: int) -> None:
    uncertainty, disagrees = outputs(400, seed)
    for design in (0, 5, 400):
        vectors = family(uncertainty[:design], disagrees[:design])
        assert vectors.shape == (128, 2)
        assert (np.diff(vectors, axis=0) >= 0).all()
        assert (vectors[0] > 0).all()
        assert vectors[-1].max() == 1.0


def test_an_exit_that_is_wrongly_certain_does_not_hold_up_the_others() -> None:
    """One threshold for all would have to stay below the first exit's mistakes."""
    generator = np.random.default_rng(0)
    uncertainty = generator.uniform(0.2, 0.9, (2000, 2)).astype(np.float32)
    disagrees = np.zeros((2000, 2), dtype=bool)
    wrong = generator.random(2000) < 0.2
    uncertainty[wrong, 0], disagrees[wrong, 0] = 0.01, True
    dial = fit_dial(uncertainty, disagrees, LAYERS, CONFIDENCE)
    assert dial.at(0.01).shares[1] > 0.5
    assert disagreement(uncertainty, disagrees, dial.at(0.01).thresholds) <= 0.01


def test_rows_that_shape_the_family_do_not_test_it() -> None:
    dial = fit_dial(*outputs(1000), LAYERS, CONFIDENCE)
    assert (dial.rows, dial.design_rows) == (750, 250)
    assert {sum(point.leaves) for point in dial.points} == {750}
    single = fit_dial(*(each[:, :1] for each in outputs(1000)), (1, 2), CONFIDENCE)
    assert (single.rows, single.design_rows) == (1000, 0)


def test_no_rows_and_no_branches() -> None:
    with pytest.raises(InvalidDataError, match="calibration split is empty"):
        fit_dial(np.zeros((0, 2), np.float32), np.zeros((0, 2), bool), LAYERS, CONFIDENCE)
    dial = fit_dial(np.zeros((9, 0), np.float32), np.zeros((9, 0), bool), (4,), CONFIDENCE)
    assert dial.at(1.0).thresholds == ()
    assert dial.mean_layers(dial.at(1.0)) == 4.0


SECONDS = np.array([0.002, 0.004, 0.006])


def taking(uncertainty: np.ndarray) -> Callable[[tuple[float, ...]], np.ndarray]:
    """Exit thresholds → what each text takes, if that depends on its exit alone."""
    return lambda thresholds: SECONDS[first_exit(uncertainty, thresholds)]


def test_a_latency_is_kept_with_confidence() -> None:
    """`limit` between the seconds of two exits: 1 − percentile of the texts may be later than that."""
    uncertainty, disagrees = outputs(20_000)
    generator = np.random.default_rng(2)
    missed, believed = 0, 0
    for _ in range(100):
        rows = generator.choice(20_000, size=1200, replace=False)
        dial = fit_dial(uncertainty[rows], disagrees[rows], LAYERS, CONFIDENCE)
        seconds = taking(uncertainty[rows])
        point = within_latency(dial, seconds, 5, percentile=0.9)
        missed += (first_exit(uncertainty, point.thresholds) == 2).mean() > 0.1
        seen = next(each for each in dial.points if (seconds(each.thresholds) > 0.005).mean() <= 0.1)
        believed += (first_exit(uncertainty, seen.thresholds) == 2).mean() > 0.1
    assert missed <= 5
    assert believed > 20, "the test could fail"


def test_a_latency_wish_takes_the_safest_point_that_keeps_it() -> None:
    uncertainty, disagrees = outputs(5000)
    dial, seconds = fit_dial(uncertainty, disagrees, LAYERS, CONFIDENCE), taking(uncertainty)
    assert within_latency(dial, seconds, 6, 0.99) == dial.points[0], "the full model is fast enough"
    order = [dial.points.index(within_latency(dial, seconds, limit, 0.9)) for limit in (7, 5, 3)]
    assert order == sorted(order)
    assert order[0] < order[1] < order[2]
    chosen, before = dial.points[order[1]], dial.points[order[1] - 1]
    late = [upper_bound((seconds(each.thresholds) > 0.005).sum(), 5000, CONFIDENCE) for each in (chosen, before)]
    assert late[0] <= 0.1 < late[1]
    with pytest.raises(ParamsError, match=r"maximum latency 1 ms: the fastest is 2\.01 ms for 90\.0% of the texts"):
        within_latency(dial, seconds, 1, 0.9)


@pytest.mark.parametrize("percentile", [0.5, 0.9, 0.99])
def test_so_many_texts_may_be_late_as_the_binomial_test_allows(percentile: float) -> None:
    for rows in (20, 298, 299, 512):
        late = _slower(rows, percentile, CONFIDENCE)
        refuted = [
            count >= 0 and binomtest(count, rows, 1 - percentile, alternative="less").pvalue <= 1 - CONFIDENCE
            for count in (late, late + 1)
        ]
        assert refuted == [late >= 0, False]


def test_a_throughput_wish_takes_the_safest_point_that_reaches_it() -> None:
    uncertainty, disagrees = outputs(5000)
    dial, seconds = fit_dial(uncertainty, disagrees, LAYERS, CONFIDENCE), taking(uncertainty)

    def mean(thresholds: tuple[float, ...]) -> float:
        return float(seconds(thresholds).mean())

    found = [dial.points.index(with_throughput(dial, mean, wish)) for wish in (150, 200, 250, 300)]
    assert found[0] == 0
    assert found == sorted(set(found))
    assert mean(dial.points[found[1]].thresholds) <= 1 / 200 < mean(dial.points[found[1] - 1].thresholds)
    with pytest.raises(ParamsError, match=r"minimum throughput 501 texts/s: the fastest is 499\.9 on this"):
        with_throughput(dial, mean, 501)
