"""The exported student answers texts; what cannot be answered is refused with a name and a number."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kd_core.config.data import TaskParams
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving import predictor
from kd_core.serving.predictor import Predictor
from tests.helpers.tiny import LABELS, tiny_rows
from tests.helpers.tiny_exits import LAYERS, LOOSE, exported_student


def test_predictions_are_those_of_the_exits(student: Predictor) -> None:
    rows = tiny_rows(30)
    answers = student.predict(rows["text"].tolist(), threshold=0.6, probabilities=True)
    arrays = student.predict_rows(rows, threshold=0.6)
    each = answers[[f"probability_{label}" for label in LABELS]].to_numpy()
    np.testing.assert_array_equal(each, arrays.probabilities)
    assert answers["label"].tolist() == [LABELS[index] for index in each.argmax(1)]
    np.testing.assert_array_equal(answers["probability"], each.max(1))
    assert set(answers["exit_layer"]) > {1}
    np.testing.assert_allclose(each.sum(1), 1.0, atol=1e-5)


def test_the_chosen_thresholds_are_the_default(student: Predictor) -> None:
    rows = tiny_rows(30)
    chosen = student.predict(rows, threshold=student.record.thresholds)
    pd.testing.assert_frame_equal(student.predict(rows), chosen)
    assert (student.predict(rows, threshold=0.0)["exit_layer"] == LAYERS).all()


def test_a_request_turns_the_dial(student: Predictor) -> None:
    rows, dial = tiny_rows(30), student.record.dial
    for wish in (0.0, LOOSE.max_disagreement, 0.5, 1.0):
        expected = student.predict(rows, threshold=dial.at(wish).thresholds)
        pd.testing.assert_frame_equal(student.predict(rows, student.limits(max_disagreement=wish)), expected)
    assert (student.predict(rows, student.limits(max_disagreement=0.0))["exit_layer"] == LAYERS).all()
    assert (student.predict(rows, student.limits(max_disagreement=1.0))["exit_layer"] < LAYERS).all()
    with pytest.raises(ParamsError, match="give one of"):
        student.limits(threshold=0.1, max_disagreement=0.1)
    with pytest.raises(ParamsError, match="share of texts"):
        student.limits(max_disagreement=1.5)


def test_labels_beside_the_texts_are_not_read(student: Predictor) -> None:
    rows = tiny_rows(6).assign(label="unheard of")
    assert set(student.predict(rows)["label"]) <= set(LABELS)


def test_a_single_text_is_not_taken_for_its_characters(student: Predictor) -> None:
    with pytest.raises(InvalidDataError, match="put it into a list"):
        student.predict("a text")


def test_chunks_change_nothing(student: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tiny_rows(25)
    whole = student.predict(rows, threshold=0.6)
    monkeypatch.setattr(predictor, "CHUNK_ROWS", 4)
    reports: list[tuple[int, int]] = []
    parts = student.predict(rows, threshold=0.6, report=lambda done, total: reports.append((done, total)))
    pd.testing.assert_frame_equal(whole, parts, atol=1e-5)
    assert reports == [(done, 25) for done in (4, 8, 12, 16, 20, 24, 25)]


def test_threads_may_ask_one_predictor_at_once(exported: Path, student: Predictor, tmp_path: Path) -> None:
    """As a server's do, each with thresholds of its own; every answer is logged once."""
    rows, shared = tiny_rows(60), Predictor.load(exported, log=tmp_path)
    assert shared.log
    asked = [(rows.iloc[place % 50 : place % 50 + 8], (place % 5) / 5) for place in range(100)]
    with ThreadPoolExecutor(8) as pool, shared.log:
        found = list(pool.map(lambda each: shared.predict(*each), asked))
    for (texts, threshold), answers in zip(asked, found, strict=True):
        pd.testing.assert_frame_equal(answers, student.predict(texts, threshold), atol=1e-5)
    (log,) = tmp_path.iterdir()
    assert pd.read_parquet(log)["exit_layer"].value_counts().to_dict() == (
        pd.concat(found)["exit_layer"].value_counts().to_dict()
    )


def test_strange_texts_are_answered(student: Predictor) -> None:
    texts = ["🙂🙃", "שלום עולם", "word " * 100_000, "\x00\ufeff tiger", "日本語"]
    assert len(student.predict(texts)) == len(texts)


def test_pairs(tmp_path: Path) -> None:
    task = TaskParams(kind="classification", labels=LABELS, pair=True, max_length=32)
    pairs = Predictor.load(exported_student(tmp_path, task))
    assert len(pairs.predict(tiny_rows(5, pair=True))) == 5
    with pytest.raises(InvalidDataError, match="text_pair"):
        pairs.predict(["alone"])


@pytest.mark.parametrize("bad", [None, float("nan"), "", "  "])
def test_rows_without_text_are_named(student: Predictor, bad: object) -> None:
    with pytest.raises(InvalidDataError, match="no text in row 2 "):
        student.predict(pd.DataFrame({"text": ["a", bad, "c"]}, dtype=object))


@pytest.mark.parametrize("threshold", [-0.1, 1.5, float("nan")])
def test_thresholds_that_mean_nothing(student: Predictor, threshold: float) -> None:
    with pytest.raises(ParamsError, match="normalised entropy"):
        student.predict(["a"], threshold=threshold)


def test_a_folder_that_was_not_exported(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"model\.json: missing"):
        Predictor.load(tmp_path)
