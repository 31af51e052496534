"""The static student goes through every stage, from ingest to the report, and answers as it was evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from kd_core.models.student import StudentModel
from kd_core.rows import read_rows
from kd_core.serving.predictor import Predictor
from tests.helpers.tiny import LABELS, tiny_base, tiny_rows
from tests.helpers.tiny_multi_label_run import component, document, training

ROLES = ("reference", "pretraining")


def params() -> dict[str, Any]:
    source = {"kind": "files", "path": "labelled.csv"}
    task = {"kind": "classification", "labels": list(LABELS), "max_length": 24}
    split = {"train": 120, "valid": 60, "calibration": 40, "test": 120}
    plain = {key: value for key, value in training(2).items() if key != "patience"}
    return {
        "recipe": "static",
        "data": {
            "reference": {"task": task, "source": source, "split": split},
            "pretraining": {"task": None, "source": {**source, "path": "texts.csv"}},
        },
        "teachers": {"mine": {"weights": "base", "data": "reference", "fine_tune": training(8)}},
        "student": {"base": "base", "layers": 0, "hidden": 16, "bigrams": 32, "combine": "probabilities", "seed": 0},
        "pretrain": {"teachers": ["mine"], "live_teacher": "none", "optimisation": training(4)},
        "finetune": {"teachers": ["mine"], "decoders": "per_teacher", "optimisation": training(6)},
        "self_distill": {"width": 8, "optimisation": plain},
        "baseline": {"optimisation": training(3)},
        "evaluate": {"thresholds": [0.0, 0.5], "resamples": 200},
        "export": {"max_disagreement": 0.2, "confidence": 0.6},
        "measure": {"batches": [1, 4], "texts": 8, "repeats": 1},
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which every stage up to the report has run."""
    folder = tmp_path_factory.mktemp("static")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny_base(folder / "base", layers=2)
        tiny_rows(420, seed=1)[["text", "label"]].to_csv("labelled.csv", index=False)
        tiny_rows(150, None, seed=2)[["text"]].to_csv("texts.csv", index=False)
        Path("params.yaml").write_text(yaml.safe_dump(params()))
        Path("machine.json").write_text('{"cpu": "test"}')
        for stage in ("ingest", "validate"):
            for role in ROLES:
                component(stage, role=role)
        component("teach", teacher="mine")
        for role in ROLES:
            component(f"score_{role}", teacher="mine")
        for stage in ("pretrain", "update", "finetune", "self_distill", "baseline", "export"):
            component(stage)
        for stage in ("evaluate", "measure", "report"):
            component(stage)
    return folder


def weights(root: Path, name: str, part: str) -> dict[str, torch.Tensor]:
    model = StudentModel.from_pretrained(root / "models" / name)
    return {key: tensor for key, tensor in model.state_dict().items() if key.startswith(part)}


def test_both_stages_move_it_and_self_distill_passes_it_on(root: Path) -> None:
    for earlier, later, moves in (("pretrain", "update", False), ("update", "finetune", True)):
        before, after = weights(root, earlier, "encoder."), weights(root, later, "encoder.")
        assert any(not torch.equal(before[key], after[key]) for key in before) == moves
    last = StudentModel.from_pretrained(root / "models/self_distill")
    assert not last.branches
    assert all(torch.equal(value, last.state_dict()[key]) for key, value in weights(root, "finetune", "").items())
    assert document(root / "models/self_distill/history.json")["curves"] == {}


def test_both_stages_teach_it(root: Path) -> None:
    curves = document(root / "models/finetune/history.json")["curves"]
    assert max(value for _, value in curves["valid_accuracy"]) > 0.8
    metrics = document(root / "evaluation/metrics.json")
    assert metrics["models"]["trunk"]["accuracy"] > 0.8
    assert metrics["models"]["adaptive"] == metrics["models"]["trunk"]
    assert (metrics["exits"], metrics["mean_layers"]) == ({"0": 1.0}, 0.0)


def test_it_serves_as_it_was_evaluated(root: Path) -> None:
    rows = read_rows(root / "data/checked/reference/test.parquet")
    found = Predictor.load(root / "models/student").predict(rows)
    assert set(found["exit_layer"]) == {0}
    metrics = document(root / "evaluation/metrics.json")
    right = (found["label"].to_numpy() == rows["label"].to_numpy()).mean()
    assert right == pytest.approx(metrics["models"]["trunk"]["accuracy"])


def test_its_one_graph_is_written_once(root: Path) -> None:
    files = sorted(path.name for path in (root / "models/student/onnx").iterdir())
    assert files == ["tokenizer.json", "whole.onnx"]


def test_texts_that_say_nothing_are_answered(root: Path) -> None:
    predictor = Predictor.load(root / "models/student")
    found = predictor.predict(pd.DataFrame({"text": ["☃ ☃", "☃", "the river"]}), probabilities=True)
    shares = found[[f"probability_{label}" for label in LABELS]].to_numpy()
    assert np.isfinite(shares).all()
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)


def test_the_card_says_what_it_is(root: Path) -> None:
    card = (root / "report/model_card.md").read_text()
    assert "A static encoder (the weighted mean of token embeddings, then a feed-forward layer; no layers) that" in card
