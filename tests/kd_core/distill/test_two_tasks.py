"""Stage one may have another task than stage two: pairs first, topics afterwards, with teachers of other kinds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from components import finetune, pretrain, score_pretraining, score_reference, teach, update
from components.base import Component, Context
from kd_core.config.base import parse
from kd_core.config.params import Params
from kd_core.inference.batches import collate, encode
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.rows import write_rows
from kd_core.runtime.errors import ParamsError
from kd_core.teachers.model import read_record
from tests.conftest import PROJECT
from tests.helpers.one_unit import decoded, targets_of
from tests.helpers.tiny import LABELS, tiny_base, tiny_bpe, tiny_rows, tiny_task, tiny_unigram

MATCH = ("irrelevant", "relevant")


def training(epochs: int, learning_rate: float = 0.01) -> dict[str, Any]:
    return {"epochs": epochs, "learning_rate": learning_rate, "batch_tokens": 256}


def params(root: Path) -> dict[str, Any]:
    """Teachers of other architectures, tokenizers and tasks than the student, which is a BERT with WordPiece."""
    tuned = {"fine_tune": training(12)}
    return {
        "data": {
            "pretraining": {"task": {"kind": "classification", "labels": list(MATCH), "pair": True, "max_length": 30}},
            "reference": {"task": {"kind": "classification", "labels": list(LABELS), "max_length": 20}},
        },
        "teachers": {
            "matcher": {"weights": str(root / "roberta"), "data": "pretraining", "layers": [0, 2], **tuned},
            "router": {"weights": str(root / "albert"), "data": "reference", **tuned},
        },
        "student": {
            "base": str(root / "bert"),
            "layers": 2,
            "hidden": 16,
            "heads": 2,
            "dropout": 0.0,
            "combine": "probabilities",
            "seed": 0,
        },
        "pretrain": {"teachers": ["matcher"], "optimisation": training(12)},
        "finetune": {"teachers": ["router"], "decoders": "per_teacher", "optimisation": training(12)},
    }


def run(component: Component, main: Any, root: Path, **items: str) -> None:
    context = Context(component, items, root)
    main(context)
    context.check_outputs()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which both stages have run."""
    root = tmp_path_factory.mktemp("workspace")
    tiny_base(root / "bert", layers=1)
    tiny_base(root / "roberta", model_type="roberta", tokenizer=tiny_bpe())
    tiny_base(root / "albert", model_type="albert", tokenizer=tiny_unigram())
    (root / "params.yaml").write_text(yaml.safe_dump(params(root)))
    checked = root / "data" / "checked"
    for seed, (role, split) in enumerate(
        (role, split) for role in ("pretraining", "reference") for split in ("train", "valid")
    ):
        labels, pair = (MATCH, True) if role == "pretraining" else (LABELS, False)
        write_rows(checked / role / f"{split}.parquet", tiny_rows(120, labels, pair, seed=seed))
    write_rows(checked / "pretraining" / "unlabelled.parquet", tiny_rows(60, MATCH, True, seed=4).assign(label=None))
    write_rows(checked / "reference" / "unlabelled.parquet", tiny_rows(60, LABELS, seed=5).assign(label=None))
    for teacher, score in (("matcher", score_pretraining), ("router", score_reference)):
        run(teach.COMPONENT, teach.main, root, teacher=teacher)
        run(score.COMPONENT, score.main, root, teacher=teacher)
    for module in (pretrain, update, finetune):
        run(module.COMPONENT, module.main, root)
    return root


def accuracy(root: Path, model: str, decoder: str, labels: tuple[str, ...], pair: bool) -> float:
    """Of one decoder, on rows that nobody saw."""
    student, tokenizer = StudentModel.from_pretrained(root / "models" / model), load_tokenizer(root / "models" / model)
    encoded = encode(tiny_rows(60, labels, pair, seed=9), tokenizer, tiny_task(labels, pair, max_length=30))
    batch = collate(encoded, range(60), tokenizer.pad_token_id)
    with torch.no_grad():
        logits = decoded(student, batch)[decoder]
    return float((logits.argmax(-1) == targets_of(encoded)).float().mean())


def test_each_teacher_belongs_to_its_own_task(workspace: Path) -> None:
    records = {name: read_record(workspace / "teachers" / name) for name in ("matcher", "router")}
    assert [record["task_labels"] for record in records.values()] == [list(MATCH), list(LABELS)]
    assert [record["pair"] for record in records.values()] == [True, False]
    assert all(record["contract"]["gold_accuracy"] > 0.8 for record in records.values())


def test_stage_one_reads_both_texts_and_learns_its_own_labels(workspace: Path) -> None:
    """The first text of a pair says nothing here: who learns the match has read the second."""
    student = StudentModel.from_pretrained(workspace / "models" / "pretrain")
    assert student.config.decoders == {"matcher": list(MATCH)}
    assert student.config.labels == list(MATCH)
    assert accuracy(workspace, "pretrain", "matcher", MATCH, pair=True) > 0.8


def test_stage_two_has_the_reference_labels_on_the_same_encoder(workspace: Path) -> None:
    before, after = (StudentModel.from_pretrained(workspace / "models" / name) for name in ("pretrain", "update"))
    assert all(
        torch.equal(value, after.encoder.state_dict()[key]) for key, value in before.encoder.state_dict().items()
    )
    tuned = StudentModel.from_pretrained(workspace / "models" / "finetune")
    assert tuned.config.decoders == {"gold": list(LABELS), "router": list(LABELS)}
    assert accuracy(workspace, "finetune", "gold", LABELS, pair=False) > 0.8
    assert "valid_accuracy" in json.loads((workspace / "models/finetune/history.json").read_text())["curves"]


def whole(**data: Any) -> dict[str, Any]:
    """The defaults with small data sections."""
    values = yaml.safe_load((PROJECT / "params.yaml").read_text())
    source = {"kind": "files", "path": "rows.csv", "columns": {"text_pair": "reply"}}
    own = {role: {"source": source} for role in ("pretraining", "reference")}
    topics = {"kind": "classification", "labels": list(LABELS)}
    own["reference"]["task"] = topics
    return values | {"data": {role: own[role] | data.get(role, {}) for role in own}}


def test_params_of_two_tasks_are_valid_with_teachers_of_both() -> None:
    match = {"kind": "classification", "labels": list(MATCH)}
    values = whole(pretraining={"task": match})
    values["teachers"]["matcher"] = values["teachers"]["minilm_l6"] | {"data": "pretraining"}
    values["pretrain"]["teachers"] = ["matcher", "minilm_l4"]
    assert parse(Params, values, "").pretrain.teachers == ("matcher", "minilm_l4")
    values["finetune"]["teachers"] = ["matcher"]
    with pytest.raises(ParamsError, match="'matcher' belongs to the pre-training data set"):
        parse(Params, values, "")


def test_a_teacher_of_single_texts_is_not_asked_about_pairs() -> None:
    match = {"kind": "classification", "labels": list(MATCH), "pair": True}
    with pytest.raises(ParamsError, match=r"pretrain\.teachers.*'minilm_l6' reads single texts.*has pairs"):
        parse(Params, whole(pretraining={"task": match}), "")
    parse(Params, whole(reference={"task": match}), "")


@pytest.mark.parametrize(
    ("hidden", "heads", "fits"), [(128, 4, True), (128, 5, False), (None, 5, True), (66, None, True)]
)
def test_heads_that_do_not_divide_the_hidden_units_are_refused_at_once(
    hidden: int | None, heads: int | None, fits: bool
) -> None:
    values = whole()
    values["student"] |= {"hidden": hidden, "heads": heads}
    if fits:
        parse(Params, values, "")
    else:
        with pytest.raises(ParamsError, match=r"student.*hidden 128 is no multiple of heads 5"):
            parse(Params, values, "")
