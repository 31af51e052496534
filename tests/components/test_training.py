"""The training stages through their components: what they write, and the same bytes after kill -9 in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from components import baseline, finetune, pretrain, score_pretraining, score_reference, self_distill, teach, update
from components.base import Component, Context
from kd_core.config.student import StudentParams
from kd_core.inference.frozen_encoder import FrozenEncoder
from kd_core.models.new_student import new_student
from kd_core.models.student import StudentModel
from kd_core.rows import write_rows
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.storage import Storage
from kd_core.tasks.baseline import tfidf
from kd_core.training.loop import CHECKPOINT
from tests.conftest import PROJECT
from tests.helpers.tiny import LABELS, tiny_base, tiny_rows


def training(epochs: int = 2, **changes: Any) -> dict[str, Any]:
    return {"epochs": epochs, "learning_rate": 0.005, "batch_tokens": 256, "checkpoint_seconds": 1e-9} | changes


def params(base: Path) -> dict[str, Any]:
    teacher = {"weights": str(base), "data": "reference", "fine_tune": training(6, patience=3)}
    return {
        "data": {
            "pretraining": {"task": None},
            "reference": {"task": {"kind": "classification", "labels": list(LABELS), "max_length": 16}},
        },
        "teachers": {"deep": teacher, "shallow": teacher | {"layers": [0]}},
        "student": {"base": str(base), "layers": 2, "hidden": 16, "heads": 2, "combine": "probabilities", "seed": 0},
        "pretrain": {"teachers": ["deep", "shallow"], "live_teacher": "deep", "optimisation": training(4),
                     "attention": {"relation_heads": 2}},
        "finetune": {"teachers": ["deep"], "decoders": "per_teacher", "alpha": 0.5,
                     "optimisation": training(3, patience=2)},
        "self_distill": {"width": 8, "optimisation": training()},
        "baseline": {"optimisation": training(3, patience=2)},
    }  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every training stage has run."""
    root = tmp_path_factory.mktemp("workspace")
    base = tiny_base(root / "base", layers=3)
    (root / "params.yaml").write_text(yaml.safe_dump(params(base)))
    checked = root / "data" / "checked"
    write_rows(checked / "reference" / "train.parquet", tiny_rows(90))
    write_rows(checked / "reference" / "valid.parquet", tiny_rows(60, seed=1))
    write_rows(checked / "reference" / "unlabelled.parquet", tiny_rows(90, labels=None, seed=2))
    write_rows(checked / "pretraining" / "train.parquet", tiny_rows(0, labels=None, seed=3))
    write_rows(checked / "pretraining" / "unlabelled.parquet", tiny_rows(150, labels=None, seed=4))
    for name in ("deep", "shallow"):
        stage(teach, root, teacher=name)
        for module in (score_pretraining, score_reference):
            stage(module, root, teacher=name)
    for module in (pretrain, update, finetune, self_distill, baseline):
        stage(module, root)
    return root


def stage(module: Any, root: Path, **items: str) -> None:
    run(module.COMPONENT, module.main, root, **items)


def run(component: Component, main: Any, root: Path, **items: str) -> None:
    context = Context(component, items, root)
    main(context)
    context.check_outputs()


def history(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "history.json").read_text())


def test_a_teacher_is_an_ordinary_classifier_with_our_labels(workspace: Path) -> None:
    folder = workspace / "teachers" / "shallow"
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.id2label == dict(enumerate(LABELS))
    assert model.config.num_hidden_layers == 1
    record = json.loads((folder / "teacher.json").read_text())
    assert record["name"] == "shallow"
    assert record["contract"]["gold_accuracy"] > 0.6
    assert "valid_accuracy" in history(folder)["curves"]


def test_every_stage_leaves_a_model_a_tokenizer_and_its_curves(workspace: Path) -> None:
    expected = {
        "pretrain": ["deep", "shallow"],
        "update": ["gold", "deep"],
        "finetune": ["gold", "deep"],
        "self_distill": ["gold", "deep"],
        "alone": ["gold"],
    }
    for name, decoders in expected.items():
        folder = workspace / "models" / name
        assert sorted(StudentModel.from_pretrained(folder).decoders) == sorted(decoders)
        assert (folder / "tokenizer.json").exists()
        assert bool(history(folder)["curves"]) == (name != "update")
    assert {"relation_attention", "relation_value"} <= set(history(workspace / "models" / "pretrain")["curves"])
    asked = pd.DataFrame({"text": ["a stone"]})
    assert tfidf.load(workspace / "models" / "tfidf").logits(asked).shape == (1, 3)
    frozen = FrozenEncoder.load(workspace / "models" / "frozen")
    assert frozen.weights.shape == (3, frozen.encoder.config.hidden_size)


def weights(workspace: Path, name: str, part: str) -> dict[str, torch.Tensor]:
    model = StudentModel.from_pretrained(workspace / "models" / name)
    return {key: tensor for key, tensor in model.state_dict().items() if key.startswith(part)}


def test_encoder_is_carried_over_and_the_trunk_stays_frozen(workspace: Path) -> None:
    for earlier, later, part in (
        ("pretrain", "update", "encoder."),
        ("finetune", "self_distill", "encoder."),
        ("finetune", "self_distill", "decoders."),
    ):
        before, after = weights(workspace, earlier, part), weights(workspace, later, part)
        assert before
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    moved = weights(workspace, "update", "encoder."), weights(workspace, "finetune", "encoder.")
    assert any(not torch.equal(moved[0][key], moved[1][key]) for key in moved[0])


def copied(workspace: Path, target: Path, output: str) -> Path:
    shutil.copytree(workspace, target)
    shutil.rmtree(target / output)
    return target


class Killed(BaseException):
    """No handler of a stage knows it, as none is asked before SIGKILL."""


def stopped_at_a_checkpoint(module: Any, root: Path, words: dict[str, str], state: Path) -> None:
    """The stage ends as soon as its first checkpoint is written."""
    write = Storage.write

    def last(self: Storage, name: str, data: bytes) -> None:
        write(self, name, data)
        if name == CHECKPOINT:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Storage, "write", last)
        with pytest.raises(Killed):
            stage(module, root, **words)


def killed_at_a_checkpoint(module: Any, root: Path, words: dict[str, str], state: Path) -> None:
    """The same in a process of its own, by a real signal."""
    child = subprocess.Popen(
        [sys.executable, "-m", module.__name__, *words.values()],
        cwd=root,
        env=os.environ | {"KD_STATE": str(state), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    while not (state / CHECKPOINT).exists():
        assert child.poll() is None, child.communicate()[1].decode()
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    assert child.wait(30) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("module", "words", "output", "end"),
    [
        (teach, {"teacher": "deep"}, "teachers/deep", stopped_at_a_checkpoint),
        (pretrain, {}, "models/pretrain", stopped_at_a_checkpoint),
        (finetune, {}, "models/finetune", stopped_at_a_checkpoint),
        (baseline, {}, "models/alone", stopped_at_a_checkpoint),
        (self_distill, {}, "models/self_distill", killed_at_a_checkpoint),
    ],
)
def test_killed_and_run_again_it_writes_the_same_bytes(
    workspace: Path, tmp_path: Path, module: Any, words: dict[str, str], output: str, end: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root, state = copied(workspace, tmp_path / "again", output), tmp_path / "state"
    monkeypatch.setenv("KD_STATE", str(state))
    monkeypatch.chdir(root)
    end(module, root, words, state)
    assert (state / CHECKPOINT).exists()
    assert not (root / output / "model.safetensors").exists(), "it had already finished"
    stage(module, root, **words)
    for name in ("model.safetensors", "history.json", "config.json"):
        assert (root / output / name).read_bytes() == (workspace / output / name).read_bytes(), name


def changed(workspace: Path, target: Path, **sections: dict[str, Any]) -> Path:
    """A copy with other params and without the student's models."""
    root = copied(workspace, target, "models")
    values = yaml.safe_load((root / "params.yaml").read_text())
    for name, section in sections.items():
        values[name] |= section
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    return root


def test_without_a_pretraining_stage_the_student_is_as_it_was_made(workspace: Path, tmp_path: Path) -> None:
    """MKD and the baselines without stage one: the same stages, no teacher in the first."""
    root = changed(workspace, tmp_path / "again", pretrain={"teachers": [], "live_teacher": "none"})
    shutil.rmtree(root / "scores" / "pretraining")
    (root / "scores" / "pretraining").mkdir()
    for module in (pretrain, update, finetune):
        stage(module, root)
    made = new_student(StudentParams.model_validate(params(root)["student"] | {"base": str(workspace / "base")}),
                       {"gold": LABELS}, LABELS, workspace / "base", "classification").state_dict()  # fmt: skip
    written = weights(root, "pretrain", "encoder.")
    assert written
    assert all(torch.equal(tensor, made[key]) for key, tensor in written.items())
    assert history(root / "models" / "pretrain") == {"curves": {}, "rows": 0}
    assert sorted(StudentModel.from_pretrained(root / "models" / "finetune").decoders) == ["deep", "gold"]


def test_without_any_teacher_gold_labels_alone_train_the_gold_decoder(workspace: Path, tmp_path: Path) -> None:
    none: dict[str, Any] = {"teachers": []}
    root = changed(workspace, tmp_path / "again", pretrain=none | {"live_teacher": "none"}, finetune=none)
    shutil.rmtree(root / "scores" / "reference")
    (root / "scores" / "reference").mkdir()
    for module in (pretrain, update, finetune, self_distill):
        stage(module, root)
    assert list(StudentModel.from_pretrained(root / "models" / "self_distill").decoders) == ["gold"]
    assert history(root / "models" / "finetune")["rows"] == 90


def test_one_decoder_for_all_teachers_and_their_validation_loss(workspace: Path, tmp_path: Path) -> None:
    several = {"teachers": ["deep", "shallow"], "decoders": "one", "teacher_weights": "validation_loss"}
    root = changed(workspace, tmp_path / "again", finetune=several)
    shutil.copytree(workspace / "models" / "pretrain", root / "models" / "pretrain")
    for module in (update, finetune):
        stage(module, root)
    assert list(StudentModel.from_pretrained(root / "models" / "finetune").decoders) == ["gold"]
    assert history(root / "models" / "finetune")["rows"] == 180


def test_scores_of_other_texts_are_refused_before_training(workspace: Path, tmp_path: Path) -> None:
    root = copied(workspace, tmp_path / "again", "models/finetune")
    changed = tiny_rows(90)
    changed.loc[7, "text"] = "a text that nobody scored"
    write_rows(root / "data/checked/reference/train.parquet", changed)
    with pytest.raises(InvalidDataError, match=r"'deep'.*text"):
        stage(finetune, root)


def test_scores_with_another_label_order_are_refused(workspace: Path, tmp_path: Path) -> None:
    root = copied(workspace, tmp_path / "again", "models/finetune")
    values = yaml.safe_load((root / "params.yaml").read_text())
    values["data"]["reference"]["task"]["labels"] = list(LABELS[::-1])
    (root / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(InvalidDataError, match=r"'deep'.*labels"):
        stage(finetune, root)


def test_labels_that_unlabelled_rows_carry_by_mistake_do_not_reach_the_branches(
    workspace: Path, tmp_path: Path
) -> None:
    root = copied(workspace, tmp_path / "again", "models/self_distill")
    path = root / "data/checked/reference/unlabelled.parquet"
    write_rows(path, pd.read_parquet(path).assign(label="red"))
    stage(self_distill, root)
    output = "models/self_distill/model.safetensors"
    assert (root / output).read_bytes() == (workspace / output).read_bytes()
