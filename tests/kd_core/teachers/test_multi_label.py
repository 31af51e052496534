"""Teachers whose texts may have several labels or none: what is saved of them, and what the contract asks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from kd_core.config.teachers import TeacherParams
from kd_core.inference.batches import encode
from kd_core.runtime.errors import InvalidDataError
from kd_core.teachers import contract
from kd_core.teachers.contract import check_teacher
from kd_core.teachers.model import Teacher, prepare
from kd_core.teachers.precision import bf16_difference
from kd_core.teachers.score_store import ScoreStore
from kd_core.teachers.scoring import logits_of
from tests.helpers.teachers import batch_for
from tests.helpers.tiny import tiny_task
from tests.helpers.tiny_multi_label import LABELS, TASK, multi_label_rows


def test_hugging_face_reads_a_saved_teacher_with_sigmoids(several: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(several)
    assert model.config.problem_type == "multi_label_classification"
    teacher = Teacher.load(several)
    assert teacher.task == TASK
    rows = multi_label_rows(1)
    answers = pipeline("text-classification", model=str(several), device="cpu", top_k=None)(rows["text"].tolist())[0]
    expected = dict(zip(LABELS, teacher.logits(batch_for(teacher, rows))[0, 0].sigmoid().tolist(), strict=True))
    assert {each["label"]: each["score"] for each in answers} == pytest.approx(expected, abs=1e-5)


def check_order(found: np.ndarray, truth: np.ndarray) -> None:
    weights = truth / np.maximum(truth.sum(0), 1)
    names = tuple(map(str, range(truth.shape[1])))
    contract._check_meaning("t", contract._centred_ranks(found, np.ones(len(found))), weights, names)


@pytest.mark.parametrize("seed", range(5))
def test_a_merely_bad_teacher_is_not_called_permuted(seed: int) -> None:
    """It gives some labels always and some never, whatever the text; label 1 comes only with the far rarer label 0."""
    random = np.random.default_rng(seed)
    truth = (random.random((500, 12)) < random.uniform(0.02, 0.6, 12)).astype(int)
    truth[:, 1] &= truth[:, 0]
    check_order(random.beta(*random.uniform(0.1, 4, (2, 12)), (500, 12)), truth)


def test_a_teacher_that_says_the_same_of_all_labels_is_not_called_permuted() -> None:
    """The clearer its output, the less the label has to do with what it says: another order would fit better."""
    random = np.random.default_rng(0)
    topic = random.normal(size=(1500, 1))
    truth = (np.linspace(0.2, 1.5, 12) * topic + random.normal(size=(1500, 12)) > 1).astype(int)
    found = np.linspace(3.0, 0.2, 12) * topic + random.normal(size=(1500, 12))
    check_order(found, truth)


def test_two_swapped_labels_of_a_teacher_that_never_reaches_one_half_are_found() -> None:
    random = np.random.default_rng(0)
    truth = (random.random((500, 12)) < 0.1).astype(int)
    found = 0.1 * truth + 0.3 * random.random((500, 12))
    check_order(found, truth)
    found[:, [3, 8]] = found[:, [8, 3]]
    with pytest.raises(InvalidDataError, match=r"order than the gold's: 3 means 8; 8 means 3;"):
        check_order(found, truth)


def test_a_teacher_of_another_kind_is_refused(folder: Path, several: Path) -> None:
    other = TASK.model_copy(update={"labels": tiny_task().labels})
    with pytest.raises(InvalidDataError, match=r"teacher t: its config says single_label_classification"):
        prepare("t", TeacherParams(weights=str(folder)), other, folder)
    with pytest.raises(InvalidDataError, match=r"teacher t: its config says multi_label_classification"):
        prepare("t", TeacherParams(weights=str(several)), tiny_task(LABELS), several)


def test_the_contract_tells_how_sharp_single_decisions_are(several: Path) -> None:
    rows, teacher = multi_label_rows(60, seed=2), Teacher.load(several)
    found = check_teacher(teacher, rows, TASK)
    p = torch.from_numpy(logits_of(teacher, rows).values).double().sigmoid().numpy()
    gold = encode(rows, teacher.tokenizer, TASK).targets.values
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p)).mean() / np.log(2)
    assert found["entropy"] == pytest.approx(entropy, abs=1e-4)
    assert found["log_loss"] == pytest.approx(-np.log(np.where(gold == 1, p, 1 - p)).mean(), abs=1e-4)


def test_the_cost_of_bf16_is_told_in_sigmoids_and_sets_of_labels(several: Path, tmp_path: Path) -> None:
    rows = multi_label_rows(40, seed=3)
    exact, fast = (
        torch.from_numpy(logits_of(Teacher.load(several, precision=kind), rows).values).sigmoid()
        for kind in ("fp32", "bf16")
    )
    found = bf16_difference(several, rows, ScoreStore(tmp_path))
    assert found["largest"] == pytest.approx(float((exact - fast).abs().max()), abs=1e-6)
    changed = ((exact > 0.5) != (fast > 0.5)).any(1).float().mean()
    assert found["labels_changed"] == pytest.approx(float(changed), abs=1e-6)
