"""The TF-IDF baseline: learns, survives saving without a bit of change, keeps the task's label order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from kd_core.config.data import CLASSIFICATION
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks import baseline
from kd_core.tasks.baseline import tfidf
from kd_core.tasks.baseline.classification import by_class
from kd_core.tasks.baseline.multi_label import answer, by_label
from tests.helpers.tiny import LABELS, tiny_rows, tiny_task
from tests.helpers.tiny_multi_label import TASK, multi_label_rows

BASELINE = baseline.of(CLASSIFICATION)


def test_saved_and_loaded_it_answers_the_same(tmp_path: Path) -> None:
    rows, test = tiny_rows(90), tiny_rows(30, seed=1)
    model = tfidf.fit(rows, tiny_task(), by_class)
    model.save(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert np.array_equal(model.logits(test), tfidf.load(tmp_path).logits(test))
    after = BASELINE.answer(tmp_path, test, tiny_task()).values
    np.testing.assert_allclose(after.sum(1), 1.0)
    assert [LABELS[index] for index in after.argmax(1)] == test["label"].tolist()


def test_columns_follow_the_task_even_without_rows_of_a_class(tmp_path: Path) -> None:
    rows, task = tiny_rows(60), tiny_task(("never", "blue", "green", "red"))
    rows = rows[rows["label"] != "green"]
    BASELINE.fit(rows, task, tmp_path)
    probabilities = BASELINE.answer(tmp_path, rows, task).values
    assert (probabilities[:, [0, 2]] == 0).all()
    assert (np.array(task.labels)[probabilities.argmax(1)] == rows["label"]).all()


def test_pairs_are_judged_by_both_texts(tmp_path: Path) -> None:
    texts = [f"list {word}" for word in ("apples", "rivers", "stones", "clouds")] * 10
    pairs = [*texts[1:21], *texts[20:]]
    labels = ["yes" if one == other else "no" for one, other in zip(texts, pairs, strict=True)]
    rows, task = pd.DataFrame({"text": texts, "text_pair": pairs, "label": labels}), tiny_task(("no", "yes"), pair=True)
    BASELINE.fit(rows, task, tmp_path)
    predicted = BASELINE.answer(tmp_path, rows, task).values.argmax(1)
    assert [("no", "yes")[index] for index in predicted] == labels


def test_bad_input_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="two classes"):
        BASELINE.fit(
            pd.DataFrame({"text": ["a text", "another"], "label": ["x", "x"]}), tiny_task(("x", "y")), tmp_path
        )
    with pytest.raises(InvalidDataError, match="run baseline again"):
        tfidf.load(tmp_path)


def test_tfidf_is_one_regression_a_label(tmp_path: Path) -> None:
    rows, asked = multi_label_rows(150, seed=2), multi_label_rows(40, seed=3)["text"].tolist()
    labels = [tuple(label for label in row if label != "blue") for row in rows["label"]]
    model = tfidf.fit(rows.assign(label=labels), TASK, by_label)
    model.save(tmp_path)
    found = answer(tmp_path, pd.DataFrame({"text": asked}), TASK).values
    assert (found[:, 2] == 0).all(), "never seen"
    features, questions = (tfidf._features(model._vectorizer(), texts, None) for texts in (rows["text"], asked))
    truth = np.array([[label in row for label in ("red", "green", "grey")] for row in labels], dtype=int)
    reference = OneVsRestClassifier(LogisticRegression(C=tfidf.INVERSE_REGULARISATION, max_iter=2000))
    np.testing.assert_allclose(found[:, [0, 1, 3]], reference.fit(features, truth).predict_proba(questions), atol=1e-6)
    model.save(tmp_path)
