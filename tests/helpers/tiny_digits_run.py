"""The kind of task in `digits` through every component, in a folder."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import EvaluateParams, ExportParams
from tests.helpers import digits
from tests.helpers.tiny import tiny_base
from tests.helpers.tiny_multi_label_run import ROLES, component, training

digits.register()
TASK = TaskParams(kind=digits.KIND, labels=digits.LABELS, max_length=24)
TEST = "data/checked/reference/test.parquet"


def params() -> dict[str, Any]:
    teacher = {"weights": "base", "data": "reference", "fine_tune": training(8)}
    source = {"kind": "files", "path": "labelled.csv"}
    task = {"kind": digits.KIND, "labels": list(digits.LABELS), "max_length": 24}
    split = {"train": 150, "valid": 60, "calibration": 40, "test": 120}
    plain = {key: value for key, value in training(2).items() if key != "patience"}
    return {
        "recipe": "digits",
        "data": {
            "reference": {"task": task, "source": source, "split": split},
            "pretraining": {"task": None, "source": {**source, "path": "texts.csv"}},
        },
        "teachers": {"deep": teacher, "shallow": {**teacher, "layers": [0]}},
        "student": {"base": "base", "layers": 2, "hidden": 24, "heads": 2, "combine": "probabilities", "seed": 0},
        "pretrain": {"teachers": ["deep", "shallow"], "live_teacher": "none", "optimisation": training(6)},
        "finetune": {"teachers": ["deep", "shallow"], "decoders": "per_teacher", "optimisation": training(10),
                     "teacher_weights": "validation_loss", "decoder_weights": "fitted"},
        "self_distill": {"width": 16, "optimisation": plain},
        "baseline": {"optimisation": training(2)},
        "export": ExportParams(max_disagreement=0.4, confidence=0.6).model_dump(mode="json"),
        "evaluate": EvaluateParams(thresholds=(0.0, 0.5), resamples=200).model_dump(mode="json"),
        "measure": {"batches": [1, 4], "texts": 8, "repeats": 1, "threads": 1},
    }  # fmt: skip


@cache
def built() -> Path:
    """A workspace in which every stage has run; one a process, and nobody writes to it."""
    folder = Path(tempfile.mkdtemp(prefix="kd-digits-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny_base(folder / "base", layers=2, tokenizer=digits.tokenizer())
        digits.rows(430, seed=1).to_csv("labelled.csv", index=False)
        digits.rows(120, seed=2)[["text"]].to_csv("texts.csv", index=False)
        Path("params.yaml").write_text(yaml.safe_dump(params()))
        Path("machine.json").write_text('{"cpu": "test"}')
        for stage in ("ingest", "validate"):
            for role in ROLES:
                component(stage, role=role)
        for name in ("deep", "shallow"):
            component("teach", teacher=name)
            for role in ROLES:
                component(f"score_{role}", teacher=name)
        for stage in ("pretrain", "update", "finetune", "self_distill", "baseline"):
            component(stage)
        for stage in ("export", "evaluate", "measure", "report"):
            component(stage)
    return folder
