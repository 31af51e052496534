"""A kind of task of a test's own goes through the stages, and no line of them knows it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from kd_core.distill.finetune import combined_answer
from kd_core.evaluation.quality.answers import of_student
from kd_core.inference.asking import ask
from kd_core.inference.batches import encode
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.serving.predictor import Predictor
from kd_core.tasks import decide
from kd_ops.display.summary import model_table
from kd_ops.tracking import tracked_values
from tests.helpers import digits
from tests.helpers.tiny_digits_run import TASK, TEST, built
from tests.helpers.tiny_multi_label_run import document


@pytest.fixture(scope="module")
def root() -> Path:
    """A workspace in which every stage has run."""
    return built()


def test_labels_go_through_ingest_and_validate(root: Path) -> None:
    rows = read_rows(root / "data/checked/reference/train.parquet")
    for text, label in zip(rows["text"], rows["label"], strict=True):
        assert label == tuple(str(sum(letter.isdigit() for letter in word)) for word in text.split())


def test_scores_have_as_many_units_as_texts_have_words(root: Path) -> None:
    rows = read_rows(root / "data/checked/reference/train.parquet").set_index("id")
    table = pq.read_table(root / "scores/reference/deep/scores.parquet").to_pylist()
    scored = [row for row in table if row["split"] == "train"]
    assert all(len(row["logits"]) == 5 * len(rows.loc[row["id"], "text"].split()) for row in scored)
    assert json.loads((root / "scores/reference/deep/scores.json").read_text())["kind"] == digits.KIND


def test_every_model_knows_its_kind(root: Path) -> None:
    for name in ("pretrain", "update", "finetune", "self_distill", "alone"):
        model = StudentModel.from_pretrained(root / "models" / name)
        assert model.config.kind == digits.KIND, name
        assert list(model.branches) == (["1"] if name == "self_distill" else [])
    assert json.loads((root / "teachers/deep/config.json").read_text())["kd_kind"] == digits.KIND


def test_the_teacher_s_contract_and_the_curves_go_by_its_own_metric(root: Path) -> None:
    assert json.loads((root / "teachers/deep/teacher.json").read_text())["contract"]["gold_word_accuracy"] > 0.6
    curves = json.loads((root / "models/finetune/history.json").read_text())["curves"]
    assert max(value for _, value in curves["valid_word_accuracy"]) > 0.5


def test_the_student_answers_each_word(root: Path) -> None:
    folder, rows = root / "models/self_distill", read_rows(root / "data/checked/reference/test.parquet")
    model, tokenizer = StudentModel.from_pretrained(folder), load_tokenizer(folder)
    encoded, kind = encode(rows, tokenizer, TASK), decide.of(digits.KIND)
    found = kind.decisions(ask(model, combined_answer(model), encoded, tokenizer.pad_token_id))
    sums = kind.counts(found, encoded.targets).sum(0)
    words = [len(text.split()) for text in rows["text"]]
    assert found.sizes.tolist() == words
    assert sums[1] == sum(words)
    assert float(kind.metric(sums)) == pytest.approx(np.mean(found.values == encoded.targets.values))
    assert float(kind.metric(sums)) > 0.5, "by chance a fifth"
    answers = kind.named(found, digits.LABELS)
    assert [len(answer) for answer in answers] == words


@pytest.fixture(scope="module")
def rows(root: Path) -> pd.DataFrame:
    return read_rows(root / TEST)


@pytest.fixture(scope="module")
def metrics(root: Path) -> dict[str, Any]:
    return document(root / "evaluation/metrics.json")


@pytest.fixture(scope="module")
def examples(root: Path) -> pd.DataFrame:
    return pd.read_parquet(root / "evaluation/details/examples.parquet")


def words(rows: pd.DataFrame) -> list[int]:
    return [len(text.split()) for text in rows["text"]]


def test_the_exported_student_answers_as_the_trained_one(root: Path, rows: pd.DataFrame) -> None:
    served, trained = Predictor.load(root / "models/student"), of_student(root / "models/self_distill", rows, TASK)
    found = served.all_exits(rows)
    assert found.layers == trained.layers == (1, 2)
    np.testing.assert_allclose(found.probabilities, trained.probabilities, atol=1e-4)
    assert found.only(2).sizes.tolist() == words(rows)


def test_the_evaluation_goes_by_words(root: Path, metrics: dict[str, Any], examples: pd.DataFrame) -> None:
    assert (metrics["main_metric"], metrics["metric_name"]) == ("word_accuracy", "words counted rightly")
    assert set(metrics["models"]) >= {
        "teacher:deep",
        "teacher:shallow",
        "trunk",
        "adaptive",
        "branch:1",
        "frozen",
        "tfidf",
    }
    for name, numbers in metrics["models"].items():
        if name in examples.columns:
            right, asked = np.stack(examples[f"{name}/counts"]).sum(0)
            assert numbers["word_accuracy"] == pytest.approx(right / asked, abs=1e-6), name
        low, high = numbers["word_accuracy_interval"]
        assert low <= numbers["word_accuracy"] <= high
    assert metrics["models"]["trunk"]["word_accuracy"] > 0.5, "by chance a fifth"
    matrix = document(root / "evaluation/details/confusion.json")["matrix"]
    bins = document(root / "evaluation/details/reliability.json")["trunk"]
    assert np.sum(matrix) == sum(bins["rows"]) == asked, "every word is one decision"


def test_a_text_is_answered_whole_at_one_exit(root: Path, rows: pd.DataFrame, examples: pd.DataFrame) -> None:
    assert [len(given) for given in examples["adaptive"]] == words(rows)
    assert set(examples["exit_layer"]) <= {1, 2}
    for layer, model in ((1, "branch:1"), (2, "trunk")):
        there = examples[examples["exit_layer"] == layer]
        assert there["adaptive"].map(tuple).tolist() == there[model].map(tuple).tolist()
    assert ((examples["entropy"] >= 0) & (examples["entropy"] <= 1)).all()


def test_every_model_is_timed(root: Path) -> None:
    measured = document(root / "measure/metrics.json")
    timed = {row["model"] for row in measured["rows"]}
    assert timed == {"teacher:deep", "teacher:shallow", "pipeline:deep", "trunk", "adaptive"}
    assert all(row["samples_per_second"] > 0 for row in measured["rows"])


def test_report_and_card_speak_of_it_in_its_own_words(root: Path, metrics: dict[str, Any]) -> None:
    page, card = ((root / "report" / name).read_text() for name in ("report.html", "model_card.md"))
    best = metrics["models"]["adaptive"]["word_accuracy"]
    assert "Counting of digits of texts" in page
    assert "Words counted rightly" in page
    assert "true class (words)" in page
    assert f"counts {best:.1%} of the words of {metrics['test']['rows']} test texts rightly" in card
    assert "counts digits of words of single texts into 5 labels" in card
    console = Console(file=io.StringIO(), width=200)
    console.print(model_table(document(root / "report/summary.json")))
    assert "words counted rightly" in console.file.getvalue()  # type: ignore[attr-defined]


def test_what_is_tracked_has_its_metric(metrics: dict[str, Any]) -> None:
    assert tracked_values.metrics(metrics)["models/trunk/word_accuracy"] == metrics["models"]["trunk"]["word_accuracy"]
