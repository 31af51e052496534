"""Threads share a request: every text once, nobody waits for a thread that serves others, errors reach the caller."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from kd_core.serving.graphs.executor import Executor
from kd_core.serving.graphs.graphs import Feeds, Floats, Graphs
from kd_core.serving.graphs.lanes import Lanes
from kd_core.serving.predictor import Predictor
from kd_core.serving.speed import timing as calibrate
from kd_core.tasks.decide.classification import normalised_entropy as entropy
from tests.helpers.tiny import tiny_rows
from tests.helpers.tiny_exits import exported_student

SECONDS = 20.0
"""After which a test that waits for a thread fails."""


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(exported_student(tmp_path_factory.mktemp("served")), threads=1)


def test_every_text_is_in_one_part_and_parts_are_alike_in_size() -> None:
    lengths = np.random.default_rng(0).integers(1, 60, 500)
    parts = Lanes(3).parts(lengths, 64)
    assert len(parts) == 3
    assert sorted(np.concatenate(parts).tolist()) == list(range(500))
    sizes = [lengths[part].sum() for part in parts]
    assert max(sizes) - min(sizes) <= 60


@pytest.mark.parametrize(
    ("lengths", "parts"),
    [([], 1), ([200], 1), ([31, 32], 1), ([64, 64], 2), ([1] * 127, 1), ([1] * 192, 3), ([64] * 9, 4)],
)
def test_a_thread_more_has_work_enough(lengths: list[int], parts: int) -> None:
    assert len(Lanes(4).parts(np.array(lengths, dtype=np.int64), 64)) == parts


def test_parts_are_worked_on_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=SECONDS)
    Lanes(3).run(lambda part: together.wait(), [np.array([place]) for place in range(3)])


def test_the_caller_does_what_busy_threads_have_not_begun() -> None:
    lanes, busy, free = Lanes(2), threading.Event(), threading.Event()

    def hold(part: np.ndarray) -> None:
        if part[0]:
            busy.set()
            assert free.wait(SECONDS)

    first = threading.Thread(target=lanes.run, args=(hold, [np.array([0]), np.array([1])]))
    first.start()
    assert busy.wait(SECONDS)
    done: list[tuple[int, str]] = []
    lanes.run(lambda part: done.append((int(part[0]), threading.current_thread().name)), [np.array([0]), np.array([1])])
    free.set()
    first.join(SECONDS)
    assert done == [(place, threading.current_thread().name) for place in (0, 1)]


@pytest.mark.parametrize("wrong", [0, 1])
def test_an_error_of_any_part_reaches_the_caller_when_all_are_done(wrong: int) -> None:
    done: list[int] = []
    together = threading.Barrier(2, timeout=SECONDS)

    def work(part: np.ndarray) -> None:
        together.wait()
        if part[0] == wrong:
            raise ValueError(f"part {part[0]}")
        done.append(int(part[0]))

    with pytest.raises(ValueError, match=f"part {wrong}"):
        Lanes(2).run(work, [np.array([0]), np.array([1])])
    assert done == [1 - wrong]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_answers_though_the_threads_stayed_behind() -> None:
    lanes, parts = Lanes(2), [np.array([0]), np.array([1])]
    lanes.run(lambda part: None, parts)  # the thread exists
    child = os.fork()
    if not child:
        done: list[int] = []
        lanes.run(lambda part: done.extend(part.tolist()), parts)
        os._exit(0 if sorted(done) == [0, 1] else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("early", [False, True])
def test_answers_are_the_same_with_any_number_of_threads(
    predictor: Predictor, early: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    graphs, tokens = predictor.executor.graphs, predictor.tokens(tiny_rows(200))
    exits = predictor.executor.all_exits(tokens)
    limits = tuple(np.quantile(entropy(exits.probabilities)[:, :-1], 0.41, axis=0) if early else (0.0, 0.0))
    one = Executor(graphs, batch_tokens=200, threads=1).answer(tokens, limits)
    assert len(set(one.exit_layer)) == (3 if early else 1)
    callers = set()
    for name in ("first", "whole"):
        monkeypatch.setattr(Graphs, name, _noting(callers, getattr(Graphs, name)))
    executor = Executor(graphs, batch_tokens=200, threads=3)
    three = executor.answer(tokens, limits)
    np.testing.assert_array_equal(three.exit_layer, one.exit_layer)
    np.testing.assert_allclose(three.probabilities, one.probabilities, atol=1e-5)
    np.testing.assert_allclose(three.entropy, one.entropy, atol=1e-5)
    np.testing.assert_allclose(executor.all_exits(tokens).probabilities, exits.probabilities, atol=1e-5)
    assert len(callers) > 1


def _noting(callers: set[str], method: object) -> object:
    def noted(graphs: Graphs, tokens: Feeds) -> Floats:
        callers.add(threading.current_thread().name)
        return method(graphs, tokens)  # type: ignore[no-any-return, operator]

    return noted


def test_the_gain_of_further_threads_is_timed(predictor: Predictor) -> None:
    folder: Path = predictor.executor.graphs.folder
    assert calibrate._gain_of_lanes(predictor, 8) == 1.0
    assert calibrate._gain_of_lanes(Predictor.load(folder, threads=2), 8) not in (0.0, 1.0)
