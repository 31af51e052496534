"""The student's structure: steps, decoders, update, branches, and saving without losing a bit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from kd_core.config.data import CLASSIFICATION
from kd_core.config.student import StudentParams
from kd_core.inference.batches import collate, encode
from kd_core.models.new_student import new_student
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import InvalidDataError, ParamsError
from tests.helpers.one_unit import decoded
from tests.helpers.tiny import LABELS, tiny_base, tiny_rows, tiny_student, tiny_task, tiny_tokenizer


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    encoded = encode(tiny_rows(6), tiny_tokenizer(), tiny_task())
    return collate(encoded, range(6), pad_id=0)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    one, two = first.state_dict(), second.state_dict()
    return one.keys() == two.keys() and all(torch.equal(value, two[key]) for key, value in one.items())


def test_token_types_reach_the_embeddings(base: Path) -> None:
    student = tiny_student(base, layers=(0, 1), hidden=None, heads=None)
    encoded = encode(tiny_rows(4, pair=True), tiny_tokenizer(), tiny_task(pair=True))
    pair = collate(encoded, range(4), 0)
    assert not torch.equal(student.embed(pair), student.embed({**pair, "token_type_ids": pair["input_ids"] * 0}))


def test_forward_gives_the_log_of_the_combined_answer(base: Path, batch: dict[str, torch.Tensor]) -> None:
    student = tiny_student(base)
    hidden = student.hidden_states(batch)[-1]
    logits = student.decode(hidden, batch)
    assert list(logits) == ["gold", "one", "two"]
    mean = torch.stack([value.softmax(-1) for value in logits.values()]).mean(0)
    torch.testing.assert_close(student(**batch).logits.exp(), mean.squeeze(1))


def test_decoders_of_another_label_space_train_but_do_not_answer(base: Path, batch: dict[str, torch.Tensor]) -> None:
    spec = StudentParams(base=str(base), layers=1, hidden=16, heads=2)
    student = new_student(spec, {"gold": LABELS, "other": ["yes", "no"]}, LABELS, base, CLASSIFICATION).eval()
    logits = decoded(student, batch)
    assert logits["other"].shape == (6, 2)
    torch.testing.assert_close(student.answer(logits), logits["gold"].softmax(-1))
    student.replace_decoders({"other": ["yes", "no"]}, LABELS, "probabilities", CLASSIFICATION)
    with pytest.raises(ParamsError, match="other"):
        student.answer({"other": logits["other"]})


def test_update_replaces_the_decoders_and_leaves_the_encoder_bit_equal(base: Path, tmp_path: Path) -> None:
    student = tiny_student(base, decoders=("one", "two"))
    before = {key: value.clone() for key, value in student.encoder.state_dict().items()}
    old = student.decoders["one"].linear.weight.clone()
    student.replace_decoders({"gold": LABELS, "one": LABELS, "three": LABELS}, LABELS, "logits", CLASSIFICATION, seed=5)
    after = student.encoder.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert list(student.decoders) == ["gold", "one", "three"]
    assert not torch.equal(old, student.decoders["one"].linear.weight)
    student.save_pretrained(tmp_path)
    loaded = StudentModel.from_pretrained(tmp_path)
    assert same(student, loaded)
    assert (loaded.config.combine, list(loaded.decoders)) == ("logits", ["gold", "one", "three"])


def test_branches_stand_on_every_layer_but_the_last(base: Path, tmp_path: Path, batch: dict[str, torch.Tensor]) -> None:
    student = tiny_student(base, layers=3)
    trunk = {key: value.clone() for key, value in student.state_dict().items()}
    student.add_branches(width=8, pooling="cls", seed=3)
    assert list(student.branches) == ["1", "2"]
    state = student.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in trunk.items())
    ids = {id(parameter) for parameter in student.branches.parameters()}
    assert ids.isdisjoint(id(parameter) for parameter in student.trunk_parameters())
    assert len(ids) + len(student.trunk_parameters()) == len(list(student.parameters()))
    student.save_pretrained(tmp_path)
    loaded = StudentModel.from_pretrained(tmp_path)
    assert same(student, loaded)
    states = student.hidden_states(batch)
    mask = batch
    assert torch.equal(student.branch_logits(1, states[1], mask), loaded.branch_logits(1, states[1], mask))
    assert student.branch_logits(2, states[2], mask).shape == (6, 1, 3)
    assert not same(student.branches["1"], student.branches["2"])


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_branches_pool_as_the_trunk_does_unless_told_otherwise(base: Path, pooling: Any) -> None:
    student = tiny_student(base, pooling=pooling)
    student.add_branches(width=8)
    assert [branch.pooling for branch in student.branches.values()] == [pooling]
    student.replace_decoders({"gold": LABELS}, LABELS, "gold", CLASSIFICATION)
    assert not student.branches, "branches of the old decoders have nothing to say about the new ones"
    assert student.config.branches is None


def test_saving_is_deterministic_and_names_no_folder_of_this_machine(base: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        tiny_student(base).save_pretrained(tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert str(base) not in (tmp_path / "a" / "config.json").read_text()
    StudentModel.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "c")
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "c" / file).read_bytes()


def test_fresh_students_follow_the_seed_and_leave_the_global_generator_alone(base: Path) -> None:
    torch.manual_seed(1)
    first = tiny_student(base, seed=3)
    torch.manual_seed(2)
    second = tiny_student(base, seed=3)
    assert same(first, second)
    assert not same(first, tiny_student(base, seed=4))
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    first.add_branches(4)
    first.replace_decoders({"gold": LABELS}, LABELS, "gold", CLASSIFICATION)
    assert torch.equal(torch.rand(1), expected)


def damage(folder: Path, how: str) -> None:
    file = folder / "model.safetensors"
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-100])
    elif how == "garbage":
        file.write_bytes(b"\x00" * 64)
    elif how == "absent":
        file.unlink()
    else:
        tensors = load_file(file)
        tensors.pop("decoders.gold.linear.bias") if how == "missing" else tensors.update(more=torch.zeros(1))
        save_file(tensors, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("how", "named"),
    [
        ("truncated", "model.safetensors"),
        ("garbage", "model.safetensors"),
        ("absent", "safetensors"),
        ("missing", "decoders.gold.linear.bias"),
        ("left over", "more"),
    ],
)
def test_nothing_is_made_up_for_damaged_weights(base: Path, tmp_path: Path, how: str, named: str) -> None:
    tiny_student(base).save_pretrained(tmp_path)
    damage(tmp_path, how)
    with pytest.raises(InvalidDataError, match=named) as error:
        StudentModel.from_pretrained(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_copied_layers_are_the_base_s_own(base: Path) -> None:
    student = tiny_student(base, layers=(2, 0), hidden=None, heads=None)
    tensors = load_file(base / "model.safetensors")
    layers = student.encoder.encoder.layer
    for own, theirs in ((0, 2), (1, 0)):
        for key, value in layers[own].state_dict().items():
            assert torch.equal(value, tensors[f"encoder.layer.{theirs}.{key}"])
    assert torch.equal(student.encoder.embeddings.LayerNorm.weight, tensors["embeddings.LayerNorm.weight"])


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"layers": (0, 7), "hidden": None, "heads": None}, "0 to 2"),
        ({"hidden": 64, "heads": 4}, "wider"),
        ({"hidden": 18, "heads": None}, "multiple"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(base: Path, values: dict[str, Any], named: str) -> None:
    with pytest.raises(ParamsError, match=named):
        tiny_student(base, **values)


def test_the_narrow_embedding_is_the_principal_part_of_the_base_s(base: Path) -> None:
    table = load_file(base / "model.safetensors")["embeddings.word_embeddings.weight"].double()
    centred = table - table.mean(0)
    narrow = tiny_student(base).encoder.embeddings.word_embeddings.weight.detach().double()
    best = torch.linalg.svdvals(centred)[:16].square().sum()
    torch.testing.assert_close(narrow.square().sum(), best, rtol=1e-4, atol=0)
    torch.testing.assert_close(narrow.mean(0), torch.zeros(16, dtype=torch.float64), atol=1e-6, rtol=0)


def test_the_config_says_the_labels_in_their_order(base: Path, tmp_path: Path) -> None:
    tiny_student(base).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["labels"] == list(LABELS)
    assert list(config["id2label"].values()) == list(LABELS)
