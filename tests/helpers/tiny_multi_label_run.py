"""A miniature multi-label data set through every component, in a folder, and as a run that can be registered."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.base import Context
from kd_core.config.evaluation import EvaluateParams, ExportParams
from kd_ops.base.documents import to_yaml
from kd_ops.base.settings import Settings
from kd_ops.runs.runs import Run
from tests.helpers.fabricated import done, new_run
from tests.helpers.tiny import TOPICS, tiny_base
from tests.helpers.tiny_multi_label import LABELS, TASK, multi_label_rows

ROLES = ("reference", "pretraining")
NAME = "kd-multi"
"""In the registry."""


def training(epochs: int) -> dict[str, Any]:
    return {"epochs": epochs, "learning_rate": 0.01, "batch_tokens": 256, "patience": 4}


def params() -> dict[str, Any]:
    teacher = {"weights": "base", "data": "reference", "fine_tune": training(8)}
    source = {"kind": "files", "path": "labelled.csv"}
    split = {"train": 150, "valid": 70, "calibration": 30, "test": 120}
    plain = {key: value for key, value in training(4).items() if key != "patience"}
    return {
        "recipe": "tiny",
        "data": {
            "reference": {"task": TASK.model_dump(mode="json"), "source": source, "split": split},
            "pretraining": {"task": None, "source": {**source, "path": "texts.csv"}},
        },
        "teachers": {"deep": teacher, "shallow": {**teacher, "layers": [0]}},
        "student": {"base": "base", "layers": 2, "hidden": 24, "heads": 2, "combine": "probabilities", "seed": 0},
        "pretrain": {"teachers": ["deep", "shallow"], "live_teacher": "deep", "optimisation": training(8),
                     "attention": {"relation_heads": 2}},
        "finetune": {"teachers": ["deep", "shallow"], "decoders": "per_teacher", "optimisation": training(10),
                     "teacher_weights": "validation_loss", "decoder_weights": "fitted"},
        "self_distill": {"width": 16, "optimisation": plain},
        "baseline": {"optimisation": training(5)},
        "evaluate": EvaluateParams(thresholds=(0.0, 0.5), resamples=200).model_dump(mode="json"),
        "export": ExportParams(max_disagreement=0.2, confidence=0.6).model_dump(mode="json"),
        "measure": {"batches": [1, 4], "texts": 8, "repeats": 1, "threads": 1},
    }  # fmt: skip


def build(folder: Path) -> None:
    """Run every component in `folder`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        tiny_base(folder / "base", layers=2)
        rows = multi_label_rows(450, seed=1, noise=4)
        cells = ["|".join(row) or "|" for row in rows["label"]]
        rows.assign(label=cells)[["text", "label"]].to_csv("labelled.csv", index=False)
        multi_label_rows(150, None, seed=2, noise=4)[["text"]].to_csv("texts.csv", index=False)
        Path("params.yaml").write_text(yaml.safe_dump(params()))
        Path("machine.json").write_text('{"cpu": "test"}')
        for stage in ("ingest", "validate"):
            for role in ROLES:
                component(stage, role=role)
        _name_labels(Path("data/checked/reference/dataset.json"))
        for name in ("deep", "shallow"):
            component("teach", teacher=name)
            for role in ROLES:
                component(f"score_{role}", teacher=name)
        for stage in ("pretrain", "update", "finetune", "self_distill", "baseline", "export"):
            component(stage)
        for stage in ("evaluate", "measure", "report"):
            component(stage)


def component(stage: str, **items: str) -> None:
    module = importlib.import_module(f"components.{stage}")
    context = Context(module.COMPONENT, items)
    module.main(context)
    context.check_outputs()


def document(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def finished(
    root: Path, settings: Settings, name: str, student: Path | None = None, registered: str = NAME, **gate: float
) -> Run:
    """The workspace's outputs as those of a run."""
    found = new_run(settings, name, (f"registry.name={registered}",))
    values = found.params()
    values["gate"] |= {"min_speedup": 0.01, "margin": 0.05, **gate}
    found.storage.write("params.yaml", to_yaml(values))
    written = {f"ingest@{role}": [f"data/raw/{role}"] for role in ROLES}
    for role in ROLES:
        files = sorted((root / "data/checked" / role).iterdir())
        written[f"validate@{role}"] = [path.relative_to(root).as_posix() for path in files]
    written |= {
        "finetune": ["models/finetune"],
        "evaluate": ["evaluation/details", "evaluation/metrics.json"],
        "measure": ["measure/metrics.json"],
        "report": ["report"],
    }
    for stage, paths in written.items():
        outs = {path: root / path if (root / path).is_dir() else (root / path).read_bytes() for path in paths}
        done(found, settings, stage, outs)
    done(found, settings, "export", {"models/student": student or root / "models/student"})
    return found


def _name_labels(path: Path) -> None:
    """Of one label the source knows what texts call it."""
    path.write_text(json.dumps({**document(path), "label_names": {LABELS[0]: [TOPICS[0]]}}))
