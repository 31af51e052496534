"""Scoring computes what is missing and nothing else; training takes only scores that fit."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer

from components.base import Context
from kd_core.config.data import CLASSIFICATION
from kd_core.inference.batches import collate, encode
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.progress import Progress
from kd_core.tasks.units import Units
from kd_core.teachers import scoring
from kd_core.teachers.model import Teacher, read_record
from kd_core.teachers.precision import bf16_difference
from kd_core.teachers.score_store import ScoreStore
from kd_core.teachers.score_table import read_scores, write_scores
from tests.helpers.tiny import SPECIAL, tiny_rows, tiny_teacher

QUIET = Progress("score")


class Counting:
    """Counts the texts that a teacher is asked about, and may fail after some."""

    def __init__(self, teacher: Teacher, fail_after: int | None = None) -> None:
        self.rows, self._model, self._fail_after = 0, teacher.model, fail_after
        self._several_ask = Lock()
        teacher.model = self  # type: ignore[assignment]

    def __call__(self, **batch: torch.Tensor) -> Any:
        if self._fail_after is not None and self.rows >= self._fail_after:
            raise KeyboardInterrupt
        with self._several_ask:
            self.rows += len(batch["input_ids"])
        return self._model(**batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


def distinct_rows(n: int, seed: int = 0) -> pd.DataFrame:
    rows = tiny_rows(n, seed=seed)
    rows["text"] = [f"{text} {chr(97 + i % 26)} {chr(97 + i // 26 % 26)} {i}" for i, text in enumerate(rows["text"])]
    return rows


def test_scores_are_the_teacher_s_logits_in_row_order(folder: Path, tmp_path: Path) -> None:
    teacher, rows = Teacher.load(folder), distinct_rows(30)
    result = scoring.score(teacher, rows, ScoreStore(tmp_path), QUIET).values
    encoded = encode(rows, teacher.tokenizer, teacher.task)
    with torch.no_grad():
        expected = torch.cat([teacher.logits(collate(encoded, [index], 0)) for index in range(30)])
    np.testing.assert_allclose(result, expected.squeeze(1).numpy(), atol=1e-5)
    assert result.dtype == np.float32


def test_a_teacher_that_was_just_trained_is_asked_without_dropout(folder: Path, tmp_path: Path) -> None:
    teacher, rows = Teacher.load(folder), distinct_rows(30)
    expected = scoring.logits_of(teacher, rows)
    teacher.model.train()
    np.testing.assert_array_equal(scoring.score(teacher, rows, ScoreStore(tmp_path), QUIET).values, expected.values)


def test_a_teacher_of_another_architecture_and_vocabulary_is_asked_in_its_own_words(tmp_path: Path) -> None:
    """Teachers need not share a tokenizer: the same word under another number gives the same logits."""
    tiny_teacher(tmp_path / "other", name="other", model_type="distilbert", steps=5)
    rows, teacher, renumbered = distinct_rows(12), *(Teacher.load(tmp_path / "other") for _ in range(2))
    words = json.loads(teacher.tokenizer.backend_tokenizer.to_str())
    ids = {
        i: i if i < len(SPECIAL) else len(teacher.tokenizer) - 1 + len(SPECIAL) - i
        for i in range(len(teacher.tokenizer))
    }
    words["model"]["vocab"] = {word: ids[i] for word, i in words["model"]["vocab"].items()}
    renumbered.tokenizer._tokenizer = Tokenizer.from_str(json.dumps(words))
    renumbered.tokenizer_hash = "another tokenizer"
    table = renumbered.model.get_input_embeddings().weight
    table.data = table.data[[ids[i] for i in range(len(ids))]]  # its own inverse
    store = ScoreStore(tmp_path / "store")
    expected = scoring.score(teacher, rows, store, QUIET).values
    counter = Counting(renumbered)
    np.testing.assert_allclose(scoring.score(renumbered, rows, store, QUIET).values, expected, atol=1e-5)
    assert counter.rows == 12, "scores of another tokenizer were reused"
    assert np.ptp(expected, axis=0).min() > 0.01


def test_one_percent_of_new_rows_costs_one_percent(folder: Path, tmp_path: Path) -> None:
    rows = distinct_rows(200)
    scoring.score(Teacher.load(folder), rows, ScoreStore(tmp_path), QUIET)
    changed = rows.sample(frac=1.0, random_state=1).reset_index(drop=True)
    changed.loc[[7, 150], "text"] = ["violin of my stone", "the old cloud"]
    teacher = Teacher.load(folder)
    counter = Counting(teacher)
    result = scoring.score(teacher, changed, ScoreStore(tmp_path), QUIET).values
    assert counter.rows == 2
    assert np.isfinite(result).all()
    assert np.abs(result).sum(1).min() > 0


def test_equal_texts_are_scored_once(folder: Path, tmp_path: Path) -> None:
    teacher, rows = Teacher.load(folder), distinct_rows(20)
    counter = Counting(teacher)
    twice = pd.concat([rows, rows], ignore_index=True)
    result = scoring.score(teacher, twice, ScoreStore(tmp_path), QUIET).values
    assert counter.rows == 20
    np.testing.assert_array_equal(result[:20], result[20:])


def test_a_killed_scoring_keeps_its_finished_shards(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "SHARD_SECONDS", 0.0)
    monkeypatch.setitem(scoring._BATCH_TOKENS, "cpu", 64)
    rows = distinct_rows(100)
    whole = scoring.score(Teacher.load(folder), rows, ScoreStore(tmp_path / "whole"), QUIET).values
    killed = Teacher.load(folder)
    Counting(killed, fail_after=50)
    with pytest.raises(KeyboardInterrupt):
        scoring.score(killed, rows, ScoreStore(tmp_path / "killed"), QUIET)
    teacher = Teacher.load(folder)
    counter = Counting(teacher)
    resumed = scoring.score(teacher, rows, ScoreStore(tmp_path / "killed"), QUIET).values
    assert 0 < counter.rows <= 50
    np.testing.assert_array_equal(resumed, whole)


@pytest.mark.parametrize("budget", [1, 10, 64])
def test_batches_have_one_length_and_hold_every_row_once(budget: int) -> None:
    lengths = [3, 9, 3, 4, 9, 9, 3, 3]
    batches = scoring.equal_length_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(8))
    for batch in batches:
        assert len({lengths[index] for index in batch}) == 1
        assert len(batch) * lengths[batch[0]] <= budget or len(batch) == 1


def test_bf16_and_fp32_scores_are_kept_apart(folder: Path, tmp_path: Path) -> None:
    rows, store = distinct_rows(10), ScoreStore(tmp_path)
    scoring.score(Teacher.load(folder), rows, store, QUIET)
    teacher = Teacher.load(folder, precision="bf16")
    counter = Counting(teacher)
    scoring.score(teacher, rows, store, QUIET)
    assert counter.rows == 10


def test_progress_counts_texts(folder: Path, tmp_path: Path) -> None:
    progress = Progress("score", tmp_path / "progress.jsonl")
    scoring.score(Teacher.load(folder), distinct_rows(25), ScoreStore(tmp_path / "s"), progress)
    last = json.loads((tmp_path / "progress.jsonl").read_text().splitlines()[-1])
    assert (last["done"], last["total"], last["unit"]) == (25, 25, "texts")


def test_damaged_logits_are_not_stored(folder: Path, tmp_path: Path) -> None:
    teacher = Teacher.load(folder)
    torch.nn.init.constant_(teacher.model.classifier.bias, float("nan"))
    with pytest.raises(InvalidDataError, match=r"teacher tiny.*not finite"):
        scoring.score(teacher, distinct_rows(5), ScoreStore(tmp_path), QUIET)
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.fixture(scope="module")
def scored(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame, np.ndarray]:
    root = tmp_path_factory.mktemp("scored")
    teacher, rows = Teacher.load(folder), distinct_rows(40)
    logits = scoring.score(teacher, rows, ScoreStore(root / "store"), QUIET)
    frames = {"train": rows.iloc[:25], "unlabelled": rows.iloc[25:]}
    write_scores(root / "scores", "tiny", scoring.spec_of(teacher), frames, logits, teacher.kind)
    return root / "scores", rows, logits


def test_a_part_of_the_rows_in_another_order_gets_its_own_scores(
    folder: Path, scored: tuple[Path, pd.DataFrame, np.ndarray]
) -> None:
    scores, rows, logits = scored
    order = [30, 2, 39, 0]
    part = read_scores(scores, read_record(folder), rows.iloc[order]).values
    np.testing.assert_array_equal(part, logits.values[order])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"fingerprint": "0" * 64}, "teacher fingerprint"),
        ({"task_labels": ["green", "red", "blue"]}, "labels"),
        ({"name": "other"}, "teacher"),
        ({"max_length": 5}, "max_length"),
        ({"precision": "bf16"}, "precision"),
    ],
)
def test_scores_of_another_teacher_or_label_map_are_refused(
    change: dict[str, Any], field: str, folder: Path, scored: tuple[Path, pd.DataFrame, np.ndarray]
) -> None:
    scores, rows, _ = scored
    with pytest.raises(InvalidDataError, match=f"'tiny' do not fit: {field} differs"):
        read_scores(scores, {**read_record(folder), **change}, rows)


def test_scores_of_other_texts_are_refused_naming_the_row(
    folder: Path, scored: tuple[Path, pd.DataFrame, np.ndarray]
) -> None:
    scores, rows, _ = scored
    changed = rows.copy()
    changed.loc[11, "text"] += " now"
    with pytest.raises(InvalidDataError, match=r"'tiny' do not fit: text differs.*1 of 40.*row0-000011"):
        read_scores(scores, read_record(folder), changed)


def test_a_score_table_of_another_record_is_refused(
    folder: Path, tmp_path: Path, scored: tuple[Path, pd.DataFrame, np.ndarray]
) -> None:
    scores, rows, logits = scored
    spec = scoring.spec_of(Teacher.load(folder))
    write_scores(tmp_path, "tiny", spec, {"train": rows.iloc[:10]}, logits.take(range(10)), CLASSIFICATION)
    (tmp_path / "scores.json").write_bytes((scores / "scores.json").read_bytes())
    with pytest.raises(InvalidDataError, match="text differs"):
        read_scores(tmp_path, read_record(folder), rows.iloc[:10])
    (tmp_path / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidDataError, match=r"scores\.parquet"):
        read_scores(tmp_path, read_record(folder), rows.iloc[:10])


@pytest.mark.parametrize("role", ["pretraining", "reference"])
def test_the_component_scores_training_splits_only(
    role: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kd_core.rows import write_rows

    monkeypatch.setenv("KD_STORE_URI", str(tmp_path / "store"))
    (tmp_path / "params.yaml").write_text("resolved: {versions: {training: x}}\n")
    (tmp_path / "teachers").mkdir()
    (tmp_path / "teachers" / "tiny").symlink_to(folder)
    data = tmp_path / "data" / "checked" / role
    for number, split in enumerate(("train", "valid", "calibration", "test", "unlabelled")):
        write_rows(data / f"{split}.parquet", tiny_rows(6, seed=number))
    stage = importlib.import_module(f"components.score_{role}")
    stage.main(Context(stage.COMPONENT, {"teacher": "tiny"}, tmp_path))
    table = pd.read_parquet(tmp_path / "scores" / role / "tiny" / "scores.parquet")
    expected = {"train", "unlabelled"} | ({"valid"} if role == "reference" else set())
    assert set(table["split"]) == expected
    with pytest.raises(InvalidDataError, match="text differs"):
        read_scores(tmp_path / "scores" / role / "tiny", {"name": "tiny"}, tiny_rows(6, seed=3))


def test_the_cost_of_bf16_is_measured_against_the_same_weights_in_fp32(folder: Path, tmp_path: Path) -> None:
    rows = distinct_rows(40)
    found = bf16_difference(folder, rows, ScoreStore(tmp_path))
    exact, fast = (Teacher.load(folder, precision=kind) for kind in ("fp32", "bf16"))
    expected = (softmax(scoring.logits_of(exact, rows)) - softmax(scoring.logits_of(fast, rows))).abs()
    assert found["rows"] == 40
    assert found["largest"] == pytest.approx(float(expected.max()), abs=1e-6)
    assert 0 < found["largest"] < 0.1


def softmax(logits: Units) -> torch.Tensor:
    return torch.from_numpy(logits.values).softmax(-1)
