"""The threshold is the fastest one that keeps its promise on the validation rows."""

from __future__ import annotations

import numpy as np
import pytest

from kd_core.inference.exits import Exits
from kd_core.inference.threshold import candidates, choose
from kd_core.runtime.errors import InvalidDataError


def exits_of(branch: list[list[float]], last: list[list[float]]) -> Exits:
    return Exits((1, 2), np.stack([np.array(branch), np.array(last)], axis=1).astype(np.float32))


RIGHT, SURE_WRONG, UNSURE_WRONG = [0.99, 0.01], [0.02, 0.98], [0.4, 0.6]
"""A branch's answers to texts of class 0."""


def test_the_fastest_threshold_without_loss() -> None:
    """The unsure and wrong texts must stay, the sure and right ones leave: between their entropies."""
    exits = exits_of([RIGHT] * 6 + [UNSURE_WRONG] * 4, [RIGHT] * 10)
    choice = choose(exits, np.zeros(10, dtype=np.int64), max_accuracy_loss=0.0)
    assert (choice.accuracy_full, choice.chosen.accuracy) == (1.0, 1.0)
    assert choice.chosen.mean_layers == pytest.approx(0.6 * 1 + 0.4 * 2)
    assert 0.08 < choice.chosen.threshold <= 0.971


def test_loss_may_be_spent_and_not_overspent() -> None:
    wrong = [[0.5 - 0.01 * n, 0.5 + 0.01 * n] for n in range(1, 11)]
    exits = exits_of([RIGHT] * 90 + wrong, [RIGHT] * 100)
    targets = np.zeros(100, dtype=np.int64)
    for allowed, kept in ((0.0, 1.0), (0.03, 0.97), (0.035, 0.97), (0.10, 0.90)):
        choice = choose(exits, targets, allowed)
        assert choice.chosen.accuracy == pytest.approx(kept)
        assert choice.chosen.accuracy == pytest.approx(np.mean(exits.simulate(choice.chosen.threshold).answers == 0))


def test_what_is_promised_holds_for_the_chosen_threshold_itself() -> None:
    """Sure and wrong texts make small thresholds lose, a larger one may win it back: it is taken for itself."""
    last = [[0.3, 0.7]] * 2 + [RIGHT] * 8
    branch = [[0.7, 0.3]] * 2 + [SURE_WRONG] * 2 + [[0.89, 0.11]] + [RIGHT] * 5
    choice = choose(exits_of(branch, last), np.zeros(10, dtype=np.int64), max_accuracy_loss=0.0)
    accuracies = {point.threshold: point.accuracy for point in choice.curve}
    assert min(accuracies.values()) < choice.accuracy_full
    assert choice.chosen.threshold == 1.0
    assert choice.chosen.accuracy == choice.accuracy_full


def test_branches_that_are_never_right_are_not_used() -> None:
    choice = choose(exits_of([SURE_WRONG] * 5, [RIGHT] * 5), np.zeros(5, dtype=np.int64), 0.0)
    assert choice.chosen.mean_layers == 2.0


def test_without_branches_no_threshold_changes_anything() -> None:
    exits = Exits((2,), np.array([[RIGHT]] * 4, dtype=np.float32))
    choice = choose(exits, np.zeros(4, dtype=np.int64), 0.0)
    assert choice.chosen.mean_layers == 2.0


def test_candidates_cover_all_changes_and_stay_few() -> None:
    generator = np.random.default_rng(0)
    exits = Exits((1, 2, 3), generator.dirichlet(np.ones(4), size=(3000, 3)).astype(np.float32))
    found = candidates(exits)
    assert found[0] == 0.0
    assert found[-1] == 1.0
    assert (np.diff(found) > 0).all()
    assert len(found) <= 1000


def test_curve_is_short_ascending_and_holds_the_chosen_one() -> None:
    generator = np.random.default_rng(1)
    exits = Exits((1, 2), generator.dirichlet(np.ones(3), size=(500, 2)).astype(np.float32))
    choice = choose(exits, generator.integers(0, 3, 500), 0.02)
    thresholds = [point.threshold for point in choice.curve]
    assert thresholds == sorted(thresholds)
    assert choice.chosen in choice.curve
    assert len(thresholds) <= 51
    layers = [point.mean_layers for point in choice.curve]
    assert layers == sorted(layers, reverse=True)


def test_no_validation_rows() -> None:
    with pytest.raises(InvalidDataError, match="validation split is empty"):
        choose(Exits((1,), np.zeros((0, 1, 2), dtype=np.float32)), np.zeros(0, dtype=np.int64), 0.01)
