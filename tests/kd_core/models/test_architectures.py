"""Every architecture as student and as teacher: stepped as it steps itself, cut, made fresh, taught, saved, loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModel, AutoModelForSequenceClassification, pipeline

from kd_core.config.teachers import TeacherParams
from kd_core.config.training import Optimisation
from kd_core.inference.batches import collate, encode
from kd_core.models import layers
from kd_core.models.loading import load_encoder, load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import ParamsError
from kd_core.runtime.progress import Progress
from kd_core.teachers import scoring
from kd_core.teachers.contract import check_teacher
from kd_core.teachers.model import Teacher, prepare, save_teacher
from kd_core.teachers.score_store import ScoreStore
from tests.helpers.one_unit import decoded, fine_tune
from tests.helpers.tiny import (
    ARCHITECTURES,
    LABELS,
    TOKENIZERS,
    tiny_base,
    tiny_rows,
    tiny_student,
    tiny_task,
    tiny_tokenizer,
)

QUIET = Progress("test")
TWINS = ("camembert", "xlm-roberta")
"""RoBERTa under other names."""
every_architecture = pytest.mark.parametrize("architecture", ARCHITECTURES)
every_kind = pytest.mark.parametrize("architecture", [name for name in ARCHITECTURES if name not in TWINS])


def base_of(architecture: str, folder: Path, **values: Any) -> Path:
    """A tiny model with the tokenizer that its kind comes with."""
    sizes = {"layers": 4, "hidden": 16, "heads": 2} | values
    return tiny_base(
        folder / architecture,
        model_type=architecture,
        tokenizer=TOKENIZERS.get(architecture, tiny_tokenizer)(),
        **sizes,
    )


def padded_batch(folder: Path, rows: int = 12) -> dict[str, Tensor]:
    """Texts of different lengths."""
    tokenizer = load_tokenizer(folder)
    batch = collate(encode(tiny_rows(rows), tokenizer, tiny_task()), range(rows), tokenizer.pad_token_id)
    assert not batch["attention_mask"].all()
    return batch


def copied(base: Path, chosen: tuple[int, ...]) -> StudentModel:
    return tiny_student(base, layers=chosen, hidden=None, heads=None)


def stepped(encoder: Any, batch: dict[str, Tensor], chosen: tuple[int, ...]) -> Tensor:
    """What comes out of the last of some of an encoder's layers."""
    hidden = layers.embed(encoder, batch)
    inputs = layers.attention_inputs(encoder, hidden, batch["attention_mask"])
    for index in chosen:
        hidden = layers.step(encoder, index, hidden, inputs)
    return hidden


@torch.no_grad()
@every_architecture
def test_stepping_equals_the_encoder_itself(architecture: str, tmp_path: Path) -> None:
    base = base_of(architecture, tmp_path)
    batch, student = padded_batch(base), copied(base, (0, 1, 2, 3))
    expected = AutoModel.from_pretrained(base).eval()(**batch, output_hidden_states=True).hidden_states
    states = student.hidden_states(batch)
    assert len(states) == len(expected) == 5
    real = batch["attention_mask"].bool()
    for one, two in zip(states, expected, strict=True):
        torch.testing.assert_close(one[real], two[real], atol=1e-5, rtol=0)
        assert torch.isfinite(one).all()
        assert one[real].std() > 0.1, "too flat to tell anything"


@torch.no_grad()
@every_kind
def test_a_student_may_be_cut_from_the_base_by_choosing_layers(architecture: str, tmp_path: Path) -> None:
    """Layers 0 and 3, each with its own weights and of its own kind; the saved student is the same."""
    base = base_of(architecture, tmp_path)
    batch, student = padded_batch(base), copied(base, (0, 3))
    assert student.layer_count == 2
    states = student.hidden_states(batch)
    torch.testing.assert_close(states[-1], stepped(load_encoder(base), batch, (0, 3)), atol=1e-5, rtol=0)
    itself = student.encoder(**batch, output_hidden_states=True).hidden_states
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(states[1][real], itself[1][real], atol=1e-5, rtol=0)
    student.save_pretrained(tmp_path / "saved")
    assert torch.equal(StudentModel.from_pretrained(tmp_path / "saved").hidden_states(batch)[-1], states[-1])


@torch.no_grad()
@every_kind
def test_a_student_may_be_fresh_and_narrow(architecture: str, tmp_path: Path) -> None:
    base = base_of(architecture, tmp_path)
    batch, student = padded_batch(base), tiny_student(base, layers=5, hidden=8, heads=4, intermediate=10)
    config = student.encoder.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (5, 8, 4)
    assert student.encoder.get_input_embeddings().weight.shape[1] == 8
    assert any(
        module.weight.shape[0] in (10, 20) for module in student.encoder.modules() if type(module) is torch.nn.Linear
    )
    states = student.hidden_states(batch)
    expected = student.encoder(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    torch.testing.assert_close(states[-1][real], expected[real], atol=1e-5, rtol=0)
    student.save_pretrained(tmp_path / "saved")
    assert torch.equal(StudentModel.from_pretrained(tmp_path / "saved").hidden_states(batch)[-1], states[-1])


@every_kind
def test_every_weight_of_a_student_is_trained(architecture: str, tmp_path: Path) -> None:
    base = base_of(architecture, tmp_path)
    student, batch = tiny_student(base, layers=2, hidden=8, heads=2).train(), padded_batch(base)
    sum(each.square().sum() for each in decoded(student, batch).values()).backward()
    assert [name for name, parameter in student.named_parameters() if parameter.grad is None] == []


@every_kind
def test_a_teacher_learns_is_checked_asked_and_loaded_by_others(architecture: str, tmp_path: Path) -> None:
    base, task = base_of(architecture, tmp_path), tiny_task()
    learning = Optimisation(epochs=24, learning_rate=0.02, batch_tokens=256)
    torch.manual_seed(0)
    teacher = prepare("t", TeacherParams(weights=str(base), layers=(0, 2), fine_tune=learning), task, base)
    assert len(layers.encoder_layers(teacher.model)) == 2
    fine_tune(teacher, tiny_rows(90), tiny_rows(30, seed=1), learning, QUIET)
    rows = tiny_rows(60, seed=2)
    found = check_teacher(teacher, rows, task)
    assert found["gold_accuracy"] > 0.9
    folder = tmp_path / "saved"
    save_teacher(teacher, folder, found)
    logits = scoring.score(Teacher.load(folder), rows, ScoreStore(tmp_path / "store"), QUIET)
    assert (logits.values.argmax(1) == encode(rows, teacher.tokenizer, task).targets.values).mean() == pytest.approx(
        found["gold_accuracy"], abs=0.02
    )
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.num_hidden_layers == 2
    answers = pipeline("text-classification", model=str(folder), device="cpu")(rows["text"].tolist(), batch_size=8)
    assert [answer["label"] for answer in answers] == [LABELS[index] for index in logits.values.argmax(1)]
    probabilities = torch.from_numpy(logits.values).softmax(-1).max(1).values
    np.testing.assert_allclose([answer["score"] for answer in answers], probabilities, atol=1e-4)


@every_kind
def test_a_teacher_with_labels_of_its_own_is_mapped(architecture: str, tmp_path: Path) -> None:
    theirs = {"LABEL_0": "blue", "LABEL_1": "red", "LABEL_2": "green"}
    base = base_of(architecture, tmp_path)
    config = AutoModel.from_pretrained(base).config
    config.num_labels = 3
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(base)
    teacher = prepare("t", TeacherParams(weights=str(base), labels=theirs), tiny_task(), base)
    batch = padded_batch(base)
    with torch.no_grad():
        torch.testing.assert_close(
            teacher.logits(batch).squeeze(1), model(**batch).logits[:, [1, 2, 0]], atol=1e-5, rtol=0
        )
    save_teacher(teacher, tmp_path / "saved", {})
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved")
    assert list(loaded.config.id2label.values()) == ["blue", "red", "green"]


def test_other_encoders_are_refused_naming_those_that_can(tmp_path: Path) -> None:
    folder = tiny_base(tmp_path, model_type="convbert", embedding_size=32)
    for values in ({"layers": (0,), "hidden": None, "heads": None}, {"layers": 2, "hidden": 16, "heads": 2}):
        with pytest.raises(ParamsError, match=r"'convbert'.*albert, bert, .*modernbert"):
            tiny_student(folder, **values)
    spec = TeacherParams(weights=str(folder), layers=(0,), fine_tune=Optimisation(epochs=1, learning_rate=1e-3))
    with pytest.raises(ParamsError, match="'convbert'"):
        prepare("t", spec, tiny_task(), folder)
    prepare("t", spec.model_copy(update={"layers": None}), tiny_task(), folder)


def albert(folder: Path, groups: int, count: int = 6) -> Any:
    return load_encoder(base_of("albert", folder, layers=count, num_hidden_groups=groups))


def test_layers_of_an_albert_are_repetitions(tmp_path: Path) -> None:
    encoder = albert(tmp_path, 1)
    layers.keep_layers(encoder, (4, 2, 0))
    assert encoder.config.num_hidden_layers == 3
    assert len({id(layer) for layer in layers.encoder_layers(encoder)}) == 1


@pytest.mark.parametrize(
    ("chosen", "groups"),
    [((0, 2, 4), [0, 1, 2]), ((0, 1, 4, 5), [0, 0, 2, 2]), ((0, 1, 2), [0, 0, 1]), ((4, 0), [2, 0]), ((3,), [1])],
)
def test_groups_of_an_albert_are_kept_with_their_layers(
    chosen: tuple[int, ...], groups: list[int], tmp_path: Path
) -> None:
    encoder = albert(tmp_path, 3)
    before = list(encoder.encoder.albert_layer_groups)
    layers.keep_layers(encoder, chosen)
    after = layers.encoder_layers(encoder)
    assert [before.index(layer) for layer in after] == groups
    assert encoder.config.num_hidden_groups == len(set(groups))


@pytest.mark.parametrize("chosen", [(0, 2, 3), (0, 2, 1), (0, 1, 2, 4, 5)])
def test_groups_that_an_albert_cannot_repeat_so_are_refused(chosen: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="groups of shared weights"):
        layers.keep_layers(albert(tmp_path, 3), chosen)


def test_a_fresh_albert_has_no_more_groups_than_layers(tmp_path: Path) -> None:
    base = base_of("albert", tmp_path, layers=6, num_hidden_groups=3)
    student = tiny_student(base, layers=2, hidden=8, heads=2)
    assert len({id(layer) for layer in layers.encoder_layers(student.encoder)}) == 2


def test_layers_of_a_modernbert_keep_their_kind_and_begin_with_0(tmp_path: Path) -> None:
    base = base_of("modernbert", tmp_path)
    assert copied(base, (0, 3)).encoder.config.layer_types == ["full_attention", "full_attention"]
    assert copied(base, (0, 2)).encoder.config.layer_types == ["full_attention", "sliding_attention"]
    fresh = tiny_student(base, layers=5, hidden=8, heads=2).encoder.config.layer_types
    assert [kind[:4] for kind in fresh] == ["full", "slid", "slid", "full", "full"], "the base's four kinds, then again"
    for chosen in ((1, 2), (1, 0)):
        with pytest.raises(ParamsError, match="start the list with 0"):
            copied(base, chosen)
    with pytest.raises(ParamsError, match="even number"):
        tiny_student(base, layers=2, hidden=6, heads=2)


@pytest.mark.parametrize("architecture", ["albert", "electra"])
def test_embeddings_narrower_than_the_layers_stay_so(architecture: str, tmp_path: Path) -> None:
    base = base_of(architecture, tmp_path, hidden=24)
    student = tiny_student(base, layers=2, hidden=20, heads=2)
    theirs = load_encoder(base).embeddings
    assert torch.equal(student.encoder.embeddings.word_embeddings.weight, theirs.word_embeddings.weight)
    assert torch.equal(student.encoder.embeddings.position_embeddings.weight, theirs.position_embeddings.weight)


def test_token_types_that_a_model_does_not_know_stay_away_from_it(tmp_path: Path) -> None:
    """A BERT tokenizer marks the second text with 1; a RoBERTa's table of token types has one row."""
    base = tiny_base(tmp_path / "base", model_type="roberta", tokenizer=tiny_tokenizer())
    rows, task = tiny_rows(6, pair=True), tiny_task(pair=True)
    spec = TeacherParams(weights=str(base), fine_tune=Optimisation(epochs=1, learning_rate=1e-3))
    save_teacher(prepare("t", spec, task, base), tmp_path / "saved", {})
    teacher = Teacher.load(tmp_path / "saved")
    encoded = encode(rows, teacher.tokenizer, task)
    assert encoded.token_type_ids is None
    pairs = [{"text": one, "text_pair": two} for one, two in zip(rows["text"], rows["text_pair"], strict=True)]
    assert len(pipeline("text-classification", model=str(tmp_path / "saved"), device="cpu")(pairs)) == 6
    batch = collate(encode(rows, tiny_tokenizer(), task), range(6), 0)
    assert batch["token_type_ids"].max() == 1
    student = copied(base, (0, 1))
    assert torch.equal(student.embed(batch), student.embed({k: v for k, v in batch.items() if k != "token_type_ids"}))
