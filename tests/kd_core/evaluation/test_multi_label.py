"""Multi-label: masked copies, comparisons of arms, and what a split ledger is kept for."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from benchmarks import comparison, predictions, tables
from benchmarks.arms import Answer, Arm, Setting
from benchmarks.comparison import Request
from benchmarks.exits import exits
from benchmarks.predictions import Predictions
from kd_core.config.data import MULTI_LABEL
from kd_core.config.evaluation import EvaluateParams
from kd_core.evaluation.quality.masked import compare, mask
from kd_core.evaluation.quality.quality import Answers
from kd_core.rows import write_rows
from kd_core.tasks import encode as encoders
from kd_core.tasks.units import Units
from kd_ops.resolving.split_ledgers import data_key
from tests.helpers.tiny_multi_label import LABELS, TASK, multi_label_rows

# Masked copies

NAMES = {"red": ["rds", "amazon rds"], "green": ["rds proxy"], "blue": ["s3"], "grey": []}


@pytest.mark.parametrize(
    ("text", "labels", "masked"),
    [
        ("Moves Amazon RDS data to S3", ("blue", "red"), "Moves it data to it"),
        ("Moves Amazon RDS data to S3", ("blue",), "Moves Amazon RDS data to it"),
        ("Starts an RDS proxy", ("green", "red"), "Starts an it"),
        ("Starts an RDS proxy", ("red",), "Starts an it proxy"),
        ("Starts an RDS proxy", ("grey",), None),
        ("Starts an RDS proxy", (), None),
    ],
)
def test_the_names_of_all_labels_of_a_text_are_masked(text: str, labels: tuple[str, ...], masked: str | None) -> None:
    """The longest name first, whichever of the labels has it."""
    rows = pd.DataFrame({"id": ["1", "2"], "text": [text, "nothing"], "label": [labels, ("red",)]})
    copy, changed = mask(rows, NAMES)
    assert changed.tolist() == [masked is not None, False]
    assert copy["text"].tolist() == ([] if masked is None else [masked])


def test_what_masking_costs_is_told_in_the_main_metric() -> None:
    truth = np.array([[1, 1]] * 10 + [[0, 0]] * 10)
    right, half = truth.astype(float), np.array([[1.0, 0.0]] * 5)
    gold, models = Units.one_a_row(truth), {"trunk": Units.one_a_row(right)}
    answers = Answers(gold, np.arange(20).astype(str), models, MULTI_LABEL)
    params = EvaluateParams(thresholds=(0.0,), resamples=100)
    found = compare(answers, np.arange(20) < 5, {"trunk": Units.one_a_row(half)}, params)["models"]["trunk"]
    assert (found["changed"], found["changed_masked"]) == (1.0, pytest.approx(2 / 3))
    assert found["example_f1"] == pytest.approx(1 - 5 / 3 / 20)
    assert found["example_f1_interval"][0] < found["example_f1"] < found["example_f1_interval"][1]


# Comparisons

ROWS = multi_label_rows(200)
TRUTH = encoders.of(TASK.kind).targets(ROWS, TASK).values


def planted(share: float) -> np.ndarray:
    """[N, C]: right about so many rows; the others lack one of their labels, or get one too many."""
    found = TRUTH.astype(float)
    found[int(share * len(found)) :, 0] = 1 - found[int(share * len(found)) :, 0]
    return found


def f1_of(found: np.ndarray) -> float:
    each = [2 * (a * b).sum() / (a + b).sum() if (a + b).sum() else 1.0 for a, b in zip(found, TRUTH, strict=True)]
    return float(np.mean(each))


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Any:
    def of(values: np.ndarray) -> Predictions:
        return Predictions((1, 2), np.stack([planted(0.1), values], axis=1), 0.0, "file")

    board = SimpleNamespace(start=lambda jobs: None, job=lambda name: None)
    monkeypatch.setattr(comparison.contestants, "rows_of", lambda setting: (ROWS, TASK, None))
    monkeypatch.setattr(
        comparison.contestants, "teachers", lambda setting: {"a": of(planted(0.8)), "b": of(planted(0.9))}
    )
    monkeypatch.setattr(
        comparison.contestants, "answer", lambda setting, arm, seed: Answer(planted(0.7 + seed / 100), 1.0, 1, ())
    )
    monkeypatch.setattr(comparison, "_data", lambda run: {"counts": {}, "hash": "", "notes": []})
    monkeypatch.setattr(comparison, "_shared", lambda setting: {})
    monkeypatch.setattr("benchmarks.exits.predict", lambda *words: of(planted(0.6)))
    monkeypatch.setattr(Setting, "run", lambda *words: None)
    return Setting(SimpleNamespace(board=board), Path(), ())  # type: ignore[arg-type]


def test_arms_are_compared_by_the_main_metric(setting: Any) -> None:
    found = comparison.compare(setting, Request((Arm.parse("tmkd"),), (1, 2), resamples=50))
    lines = {line.name: line.accuracy for line in found.lines}
    assert found.best_teacher == "teacher b"
    assert lines["teacher b"] == pytest.approx(f1_of(planted(0.9)))
    assert lines["tmkd"] == pytest.approx((f1_of(planted(0.71)) + f1_of(planted(0.72))) / 2)
    assert found.as_dict()["metric"] == "example-based F1"
    assert "| example-based F1 |" in tables.section("title", found, (1, 2), None)


def test_exits_of_an_arm_are_told_in_the_main_metric(setting: Any) -> None:
    found = exits(setting, Arm.parse("tmkd"), (1,), Units.one_a_row(TRUTH), MULTI_LABEL)
    assert found.accuracy == pytest.approx({"1": f1_of(planted(0.1)), "2": f1_of(planted(0.6))})
    assert found.counts[..., 0].mean() == pytest.approx(f1_of(planted(0.6)))


def test_predictions_are_kept_with_lists_of_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_rows(tmp_path / "rows.parquet", ROWS)
    monkeypatch.setattr(predictions, "_answers", lambda model, frame, task: ((2,), planted(0.5)[:, None]))
    predictions._write(tmp_path / "kept.parquet", tmp_path, tmp_path / "rows.parquet", TASK)
    assert pq.read_table(tmp_path / "kept.parquet")["label"].to_pylist() == [list(row) for row in ROWS["label"]]
    np.testing.assert_allclose(predictions._read(tmp_path / "kept.parquet").probabilities, planted(0.5))


# Split ledgers


def test_data_of_another_kind_start_from_another_ledger_and_a_separator_counts_where_it_is_used() -> None:
    def key(kind: str, separator: str | None = "|") -> str:
        data = {
            "task": {"kind": kind, "labels": list(LABELS), "pair": False},
            "source": {"path": "x"} | ({} if separator is None else {"label_separator": separator}),
            "split": {},
            "validation": {"duplicate_similarity": 0.8},
        }
        return data_key(data, {"ledger": "1"})

    assert key(MULTI_LABEL, None) != key("classification", None)
    assert key(MULTI_LABEL) != key(MULTI_LABEL, ";")
    assert key("classification") == key("classification", ";")
