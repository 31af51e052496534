"""The TF-IDF baseline: learns, survives saving without a bit of change, keeps the task's label order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.baseline import tfidf
from tests.helpers.tiny import LABELS, tiny_rows


def test_saved_and_loaded_it_answers_the_same(tmp_path: Path) -> None:
    rows, test = tiny_rows(90), tiny_rows(30, seed=1)
    model = tfidf.fit(rows["text"].tolist(), rows["label"].tolist(), LABELS)
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    before, after = (each.predict_proba(test["text"].tolist()) for each in (model, tfidf.load(tmp_path)))
    assert np.array_equal(before, after)
    np.testing.assert_allclose(after.sum(1), 1.0)
    assert [LABELS[index] for index in after.argmax(1)] == test["label"].tolist()


def test_columns_follow_the_task_even_without_rows_of_a_class() -> None:
    rows = tiny_rows(60)
    rows = rows[rows["label"] != "green"]
    model = tfidf.fit(rows["text"].tolist(), rows["label"].tolist(), ("never", "blue", "green", "red"))
    probabilities = model.predict_proba(rows["text"].tolist())
    assert (probabilities[:, [0, 2]] == 0).all()
    names = np.array(["never", "blue", "green", "red"])[probabilities.argmax(1)]
    assert (names == rows["label"]).all()


def test_pairs_are_judged_by_both_texts(tmp_path: Path) -> None:
    texts = [f"list {word}" for word in ("apples", "rivers", "stones", "clouds")] * 10
    pairs = [*texts[1:21], *texts[20:]]
    labels = ["yes" if one == other else "no" for one, other in zip(texts, pairs, strict=True)]
    model = tfidf.fit(texts, labels, ("no", "yes"), pairs)
    model.save(tmp_path)
    predicted = tfidf.load(tmp_path).predict_proba(texts, pairs).argmax(1)
    assert [("no", "yes")[index] for index in predicted] == labels


def test_bad_input_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="two classes"):
        tfidf.fit(["a text", "another"], ["x", "x"], ("x", "y"))
    with pytest.raises(InvalidDataError, match="run baseline again"):
        tfidf.load(tmp_path)
