"""The depth-pool executor: thresholds decide, never the company; nothing is computed that nobody needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_core.runtime.errors import ParamsError
from kd_core.serving.exits.outcomes import Exits, Predictions
from kd_core.serving.folder.profile import Profile
from kd_core.serving.graphs.executor import Executor
from kd_core.serving.graphs.tokens import Tokens
from kd_core.serving.predictor import Predictor
from kd_core.serving.speed.costs import Cost, Costs
from kd_core.serving.speed.plan import Planner
from kd_core.tasks.decide.classification import normalised_entropy as entropy
from tests.helpers.tiny import tiny_rows
from tests.helpers.tiny_exits import LAYERS, exported_student

COSTS = Costs({}, (Cost(1e-4, 1e-6, 1e-9),) * 3, Cost(1e-4, 3e-6, 3e-9), 1e-10, 64, 1.0, Cost(0.0, 0.0, 0.0), 1.0)


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(exported_student(tmp_path_factory.mktemp("served")))


@pytest.fixture(scope="module")
def tokens(predictor: Predictor) -> Tokens:
    return predictor.tokens(tiny_rows(61))


@pytest.fixture(scope="module")
def exits(predictor: Predictor, tokens: Tokens) -> Exits:
    return predictor.executor.all_exits(tokens)


@pytest.fixture(scope="module")
def middle(exits: Exits) -> tuple[float, float]:
    """Thresholds at which every exit is used."""
    found = np.quantile(entropy(exits.probabilities)[:, :-1], 0.41, axis=0)
    return float(found[0]), float(found[1])


def some(tokens: Tokens, rows: Sequence[int]) -> Tokens:
    types = None if tokens.types is None else [tokens.types[row] for row in rows]
    return Tokens([tokens.ids[row] for row in rows], types, tokens.lengths[list(rows)])


def by_rule(exits: Exits, thresholds: Sequence[float]) -> Predictions:
    """What the rule says, text by text."""
    u = entropy(exits.probabilities)
    first = [next((n for n, limit in enumerate(thresholds) if u[row, n] < limit), LAYERS - 1) for row in range(len(u))]
    rows = np.arange(len(u))
    return Predictions(
        exits.probabilities[rows, first], np.array(exits.layers)[first], u[rows, first], "classification"
    )


def same(found: Predictions, expected: Predictions) -> None:
    np.testing.assert_array_equal(found.exit_layer, expected.exit_layer)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.entropy, expected.entropy, atol=1e-5)


@pytest.mark.parametrize("batch_tokens", [1, 30, 200, 10_000])
@pytest.mark.parametrize("planned", [False, True])
def test_answers_do_not_depend_on_the_company(
    predictor: Predictor, tokens: Tokens, exits: Exits, middle: tuple[float, float], batch_tokens: int, planned: bool
) -> None:
    """Alone, shuffled, or with others: each text is answered by the exit that the rule names, as it answers alone."""
    expected = by_rule(exits, middle)
    assert set(expected.exit_layer) == {1, 2, 3}
    planner = eager(predictor) if planned else None
    executor = Executor(predictor.executor.graphs, planner, batch_tokens)
    same(executor.answer(tokens, middle), expected)
    order = np.random.default_rng(0).permutation(len(tokens))
    mixed = executor.answer(some(tokens, order.tolist()), middle)
    back = np.argsort(order)
    same(Predictions(mixed.probabilities[back], mixed.exit_layer[back], mixed.entropy[back], mixed.kind), expected)
    for row in (0, 17, 60):
        alone = executor.answer(some(tokens, [row]), middle)
        assert alone.exit_layer.tolist() == [expected.exit_layer[row]]
        np.testing.assert_allclose(alone.probabilities[0], expected.probabilities[row], atol=1e-5)


def eager(predictor: Predictor, **changes: Any) -> Planner:
    """A planner with costs at which exits always pay."""
    profile = Profile(np.array([8, 16]), np.zeros((2, 3), dtype=np.float32))
    return Planner(Costs(**{**vars(COSTS), **changes}), profile, predictor.record.hidden)


@pytest.mark.parametrize("thresholds", [(0.2, 0.2), (0.0, 0.9), (0.9, 0.0), (1.0, 1.0), (0.05, 0.6)])
def test_each_exit_has_a_threshold_of_its_own(
    predictor: Predictor, tokens: Tokens, exits: Exits, thresholds: tuple[float, float]
) -> None:
    same(predictor.executor.answer(tokens, thresholds), by_rule(exits, thresholds))


def test_one_threshold_is_that_of_every_exit(predictor: Predictor, exits: Exits) -> None:
    same(predictor.predict_rows(tiny_rows(61), 0.4), exits.simulate(0.4))


def test_threshold_zero_is_the_full_model(
    predictor: Predictor, tokens: Tokens, exits: Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("first", "following"):
        monkeypatch.setattr(predictor.executor.graphs, name, lambda *arguments: pytest.fail("asked"))
    found = predictor.executor.answer(tokens, (0.0, 0.0))
    np.testing.assert_allclose(found.probabilities, exits.only(LAYERS).values, atol=1e-5)
    assert found.answers.values.tolist() == exits.only(LAYERS).values.argmax(-1).tolist()
    assert set(found.exit_layer) == {LAYERS}


def test_the_rule_is_strict(predictor: Predictor, tokens: Tokens, exits: Exits) -> None:
    one = some(tokens, [3])
    u = float(entropy(predictor.executor.all_exits(one).probabilities)[0, 0])
    assert predictor.executor.answer(one, (u, 0.0)).exit_layer.item() == LAYERS
    above = float(np.nextafter(np.float32(u), np.float32(2)))
    assert predictor.executor.answer(one, (above, 0.0)).exit_layer.item() == 1


@pytest.mark.parametrize(
    ("thresholds", "said"),
    [((0.5,), "1 thresholds for 2 early exits"), ((0.5, 1.5), "threshold 1.5"), ((-0.1, 0), "-0.1")],
)
def test_wrong_thresholds_are_refused(
    predictor: Predictor, tokens: Tokens, thresholds: tuple[float, ...], said: str
) -> None:
    with pytest.raises(ParamsError, match=said):
        predictor.executor.answer(tokens, thresholds)


def test_no_texts(predictor: Predictor, tokens: Tokens) -> None:
    nothing = some(tokens, [])
    assert predictor.executor.answer(nothing, (0.5, 0.5)).probabilities.shape == (0, 3)
    assert predictor.executor.all_exits(nothing).probabilities.shape == (0, 3, 3)


class Spy:
    """Notes which texts a graph is asked for, by their number of rows and padded length."""

    def __init__(self, executor: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[tuple[int, int, int]] = []
        graphs = executor.graphs
        first, following = graphs.first, graphs.following

        def enter(feeds: Any) -> Any:
            self.calls.append((0, *feeds["input_ids"].shape))
            return first(feeds)

        def go_on(index: int, hidden: Any, feeds: Any) -> Any:
            mask = feeds["attention_mask"]
            assert hidden.shape[:2] == mask.shape
            assert mask.any(0).all(), "padding that no text needs"
            assert mask.any(1).all(), "a row without a text"
            self.calls.append((index, *mask.shape))
            return following(index, hidden, feeds)

        monkeypatch.setattr(graphs, "first", enter)
        monkeypatch.setattr(graphs, "following", go_on)

    def rows(self, index: int) -> list[int]:
        return [rows for segment, rows, _ in self.calls if segment == index]


def test_leavers_are_not_computed_further_and_the_others_are_packed(
    predictor: Predictor, tokens: Tokens, middle: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor(predictor.executor.graphs, None, batch_tokens=100)
    spy = Spy(executor, monkeypatch)
    layers = executor.answer(tokens, middle).exit_layer
    for index in range(LAYERS):
        assert sum(spy.rows(index)) == int((layers > index).sum())
    assert len(spy.rows(1)) < len(spy.rows(0)), "what stays of several batches is one batch"
    assert len(spy.rows(2)) < len(spy.rows(1))


def test_a_large_request_does_not_pile_up_between_segments(
    predictor: Predictor, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deepest pool that holds a batch goes first: some texts are answered before the last ones have entered."""
    many = some(tokens, list(range(61)) * 5)
    executor = Executor(predictor.executor.graphs, None, batch_tokens=100)
    spy = Spy(executor, monkeypatch)
    executor.answer(many, (1e-6, 1e-6))  # nobody leaves early
    waiting, most = 0, 0
    for index, rows, length in spy.calls:
        waiting += rows * length if index == 0 else 0
        waiting -= rows * length if index == LAYERS - 1 else 0
        most = max(most, waiting)
    assert most <= 4 * 100 < int(many.lengths.sum())


def test_padding_leaves_with_the_longest_text(
    predictor: Predictor, tokens: Tokens, exits: Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One batch that nobody joins is not packed anew, but cut: the spy asserts that no column is padding alone."""
    u = entropy(exits.probabilities)[:, 0]
    longest = int(tokens.lengths.argmax())
    short = [row for row in np.argsort(-u).tolist() if tokens.lengths[row] < tokens.lengths[longest]][:3]
    threshold = float(np.nextafter(u[longest], np.float32(2))) + 1e-5
    assert u[short].min() > threshold, "only the longest leaves"
    executor = Executor(predictor.executor.graphs, None, batch_tokens=10_000)
    spy = Spy(executor, monkeypatch)
    executor.answer(some(tokens, [longest, *short]), (threshold, 0.0))
    assert spy.rows(0) == [4]
    assert spy.rows(1) == spy.rows(2) == [3]


def test_texts_of_like_length_are_batched(
    predictor: Predictor, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor(predictor.executor.graphs, None, batch_tokens=120)
    spy = Spy(executor, monkeypatch)
    executor.answer(tokens, (1.0, 1.0))
    padded = sum(rows * length for _, rows, length in spy.calls)
    assert padded < 1.2 * int(tokens.lengths.sum())
    assert all(rows * length <= 120 for _, rows, length in spy.calls)


def test_where_exits_are_slower_the_whole_graph_answers(
    predictor: Predictor, tokens: Tokens, exits: Exits, middle: tuple[float, float]
) -> None:
    slow = eager(predictor, segments=(Cost(1.0, 1e-6, 0.0),) * 3)
    found = Executor(predictor.executor.graphs, slow).answer(tokens, middle)
    assert set(found.exit_layer) == {LAYERS}
    np.testing.assert_allclose(found.probabilities, exits.only(LAYERS).values, atol=1e-5)


def test_texts_wait_only_where_that_pays(
    predictor: Predictor, tokens: Tokens, middle: tuple[float, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = {}
    for name, call in (("dear", 1e-2), ("free", 0.0)):
        whole = Cost(10.0, 1e-3, 0.0)  # exits pay either way
        planner = eager(predictor, segments=(Cost(call, 1e-6, 0.0),) * 3, whole=whole, batch_tokens=100)
        executor = Executor(predictor.executor.graphs, planner, batch_tokens=100)
        with monkeypatch.context() as patched:
            spy = Spy(executor, patched)
            executor.answer(tokens, middle)
        calls[name] = [len(spy.rows(index)) for index in range(LAYERS)]
    assert calls["free"][1] > calls["dear"][1], "a call that costs nothing is not waited for"


def test_load_with_a_thread_number(predictor: Predictor) -> None:
    folder: Path = predictor.executor.graphs.folder
    assert Predictor.load(folder, threads=2).executor.lanes.threads == 2
    assert Predictor.load(folder).executor.lanes.threads == 1, "OMP_NUM_THREADS"
