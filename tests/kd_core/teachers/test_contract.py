"""What is checked of every teacher before it scores or teaches: order of labels, sharpness, tokenizer, numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from kd_core.config.data import TaskParams
from kd_core.inference.batches import collate, encode
from kd_core.runtime.errors import InvalidDataError
from kd_core.teachers import contract
from kd_core.teachers.contract import check_teacher
from kd_core.teachers.model import Teacher, prepare
from tests.helpers.one_unit import targets_of
from tests.helpers.teachers import Taught, as_it_is
from tests.helpers.tiny import LABELS, tiny_rows, tiny_task


def test_the_contract_reports_what_it_saw(taught: Taught) -> None:
    found = check_teacher(Teacher.load(taught.folder), taught.rows(60, seed=3), taught.task)
    assert found[taught.metric] > 0.85
    assert found["rows"] == 60


def test_the_contract_tells_how_sharp_a_teacher_s_answers_are(folder: Path) -> None:
    """By hand: half the logits, and the answers are flatter; what it gets wrong costs less."""
    teacher = Teacher.load(folder)
    rows = tiny_rows(60, seed=1)
    sharp = check_teacher(teacher, rows, tiny_task())
    encoded = encode(rows, teacher.tokenizer, tiny_task())
    logits = teacher.logits(collate(encoded, range(60), teacher.tokenizer.pad_token_id)).detach().double()
    p = logits.softmax(-1)
    assert sharp["entropy"] == pytest.approx(float((-(p * p.log()).sum(-1) / np.log(3)).mean()), abs=1e-5)
    assert sharp["log_loss"] == pytest.approx(float(-p.log()[range(60), 0, targets_of(encoded)].mean()), abs=1e-5)
    with torch.no_grad():
        for parameter in teacher.model.classifier.parameters():
            parameter.mul_(0.5)
    assert check_teacher(teacher, rows, tiny_task())["entropy"] > sharp["entropy"]


@pytest.mark.parametrize("scale", [0.0, 1e-6])
def test_a_teacher_with_one_answer_for_every_text_is_refused(taught: Taught, scale: float) -> None:
    """Also one whose order is right but whose logits are so flat that no soft target tells texts apart."""
    teacher = Teacher.load(taught.folder)
    with torch.no_grad():
        for parameter in teacher.model.classifier.parameters():
            parameter.mul_(scale)
    with pytest.raises(InvalidDataError, match=f"teacher {teacher.name}: gives every text the same answer"):
        check_teacher(teacher, taught.rows(60, seed=1), taught.task)


def test_a_weak_teacher_is_not_refused(folder: Path) -> None:
    """Little to teach is not nothing."""
    teacher = Teacher.load(folder)
    with torch.no_grad():
        for parameter in teacher.model.classifier.parameters():
            parameter.mul_(0.02)
    assert check_teacher(teacher, tiny_rows(60, seed=1), tiny_task())["entropy"] > 0.99


def test_permuted_labels_are_refused_naming_the_swap(taught: Taught) -> None:
    swapped = {label: {"red": "green", "green": "red"}.get(label, label) for label in taught.task.labels}
    teacher = prepare("liar", as_it_is(taught.folder, labels=swapped), taught.task, taught.folder)
    with pytest.raises(InvalidDataError, match=r"teacher liar.*red means green; green means red") as error:
        check_teacher(teacher, taught.rows(150, seed=3), taught.task)
    assert "blue" not in str(error.value)


def classes_of(targets: np.ndarray) -> np.ndarray:
    return np.eye(int(targets.max()) + 1, dtype=int)[targets]


def answers_of(targets: np.ndarray, classes: int, signal: float, seed: int = 0) -> np.ndarray:
    """Made-up probabilities [N, C]: noise, and `signal` more at the true class."""
    logits = np.random.default_rng(seed).normal(size=(len(targets), classes))
    logits[np.arange(len(targets)), targets] += signal
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


FORTY = tuple(map(str, range(40)))


@pytest.mark.parametrize("seed", range(5))
def test_a_merely_bad_teacher_is_not_called_permuted(seed: int) -> None:
    """Some assignment always fits random answers better than the given one: it must not count on the rows it fits."""
    targets = np.random.default_rng(seed).integers(40, size=500)
    contract._check_order("bad", answers_of(targets, 40, signal=0.0, seed=seed), classes_of(targets), FORTY)


def test_two_swapped_labels_among_forty_are_found() -> None:
    targets = np.random.default_rng(0).integers(40, size=500)
    answers = answers_of(targets, 40, signal=3.0)
    contract._check_order("good", answers, classes_of(targets), FORTY)
    answers[:, [3, 8]] = answers[:, [8, 3]]
    with pytest.raises(InvalidDataError, match=r"order than the gold's: 3 means 8; 8 means 3;"):
        contract._check_order("swapped", answers, classes_of(targets), FORTY)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(5))
def test_a_right_teacher_that_favours_a_rare_class_is_not_called_permuted(classes: int, seed: int) -> None:
    """80 % of the rows are of class 0, nearly all of them are given class 1; yet its outputs mean what they say."""
    targets = np.where(np.arange(600) % 10 < 8, 0, np.arange(600) % (classes - 1) + 1)
    answers = answers_of(targets, classes, signal=1.0, seed=seed) * ([1, 6, 2][:classes])
    assert (answers.argmax(1)[targets == 0] == 1).mean() > 0.5
    labels = FORTY[:classes]
    contract._check_order("biased", answers / answers.sum(1, keepdims=True), classes_of(targets), labels)
    answers[:, [0, 1]] = answers[:, [1, 0]]
    with pytest.raises(InvalidDataError, match="0 means 1; 1 means 0;"):
        contract._check_order("swapped", answers / answers.sum(1, keepdims=True), classes_of(targets), labels)


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_swapped_labels_are_found_though_nearly_all_rows_have_one_of_them(classes: int, seed: int) -> None:
    """The rare rows tell it: among equally counted rows they would hardly show in the ranks."""
    targets = np.where(np.arange(600) % 20 == 0, np.arange(600) // 20 % (classes - 1) + 1, 0)
    answers = answers_of(targets, classes, signal=1.0, seed=seed)
    contract._check_order("good", answers, classes_of(targets), FORTY[:classes])
    answers[:, [0, 1]] = answers[:, [1, 0]]
    with pytest.raises(InvalidDataError, match="0 means 1; 1 means 0;"):
        contract._check_order("swapped", answers, classes_of(targets), FORTY[:classes])


def test_the_contract_looks_at_every_label_whatever_the_ids_begin_with(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come sorted by id; two swapped labels must not hide behind the one that comes first."""
    rows = tiny_rows(300, seed=1)
    rows["id"] = [
        {"blue": "0", "green": "1", "red": "2"}[label] + key
        for label, key in zip(rows["label"], rows["id"], strict=True)
    ]
    rows = rows.sort_values("id", ignore_index=True)
    monkeypatch.setattr(contract, "_ROWS", 90)
    swapped = {LABELS[0]: LABELS[1], LABELS[1]: LABELS[0], LABELS[2]: LABELS[2]}
    teacher = prepare("liar", as_it_is(folder, labels=swapped), tiny_task(), folder)
    with pytest.raises(InvalidDataError, match=r"teacher liar.*red means green; green means red"):
        check_teacher(teacher, rows, tiny_task())


def test_another_label_count_is_refused_with_the_counts(folder: Path) -> None:
    with pytest.raises(InvalidDataError, match="teacher three: has 3 labels, the task has 2"):
        prepare("three", as_it_is(folder), TaskParams(kind="classification", labels=("red", "green")), folder)
    task = TaskParams(kind="classification", labels=("red", "green"))
    with pytest.raises(InvalidDataError, match="has 3 labels, the task has 2"):
        check_teacher(Teacher.load(folder), tiny_rows(9), task)


def test_a_tokenizer_that_knows_nothing_of_the_texts_is_refused(folder: Path) -> None:
    rows = tiny_rows(9)
    rows["text"] = "漢字 仮名 漢字"
    with pytest.raises(InvalidDataError, match=r"teacher tiny.*tokenizer"):
        check_teacher(Teacher.load(folder), rows, tiny_task())


def test_a_tokenizer_larger_than_the_embedding_is_refused(folder: Path) -> None:
    teacher = Teacher.load(folder)
    teacher.tokenizer.add_tokens([f"extra{index}" for index in range(9)])
    with pytest.raises(InvalidDataError, match=r"teacher tiny.*tokens, its embedding only"):
        check_teacher(teacher, tiny_rows(9), tiny_task())


def test_logits_that_are_not_finite_are_refused(folder: Path) -> None:
    teacher = Teacher.load(folder)
    torch.nn.init.constant_(teacher.model.classifier.bias, float("nan"))
    with pytest.raises(InvalidDataError, match=r"teacher tiny.*not finite"):
        check_teacher(teacher, tiny_rows(9), tiny_task())
