"""A tiny random student with branches that are sure of some texts and unsure of others, in memory or exported."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams
from kd_core.export import checking
from kd_core.export.stage import export
from kd_core.inference.batches import Encoded, collate
from kd_core.models.student import StudentModel
from kd_core.models.student_config import StudentConfig
from kd_core.rows import write_rows
from kd_core.serving.exits.outcomes import Predictions
from kd_core.serving.exits.thresholds import Thresholds, per_exit
from tests.helpers.one_unit import probabilities as probabilities_of
from tests.helpers.one_unit import uncertainty
from tests.helpers.tiny import LABELS, tiny_base, tiny_rows, tiny_tokenizer
from tests.helpers.traced import traced

TASK = TaskParams(kind="classification", labels=LABELS, max_length=32)
LAYERS = 3
LOOSE = ExportParams(max_disagreement=0.12, confidence=0.8)


def tiny_student(folder: Path, model_type: str = "bert", branches: bool = True) -> StudentModel:
    """Three layers, two decoders, weights large enough that texts are told apart."""
    base = tiny_base(folder / "base", layers=LAYERS, hidden=32, model_type=model_type)
    encoder = AutoConfig.from_pretrained(base).to_dict()
    encoder.pop("_name_or_path", None)
    decoders = {"gold": list(LABELS), "teacher_a": list(LABELS)}
    torch.manual_seed(0)
    model = StudentModel(StudentConfig(encoder=encoder, decoders=decoders, labels=list(LABELS)))
    if branches:
        model.add_branches(width=16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(40.0 if "branches" in name else 12.0)
    return model.eval()


def one_by_one(model: StudentModel, encoded: Encoded, thresholds: Thresholds) -> Predictions:
    """Adaptive inference as the rule says it, text by text in PyTorch: what is computed otherwise must come to this."""
    kind, limits, found = model.config.kind, per_exit(thresholds, len(model.branches)), []
    for row in range(len(encoded)):
        batch = collate(encoded, [row], pad_id=0)
        with torch.inference_mode():
            states = model.hidden_states(batch)
            for layer, limit in zip(sorted(map(int, model.branches)), limits, strict=True):
                answer = probabilities_of(model.branch_logits(layer, states[layer], batch), kind)[:, 0]
                if uncertainty(answer, kind) < limit:
                    break
            else:
                layer, answer = model.layer_count, model.answer(model.decode(states[-1], batch))[:, 0]
        found.append((answer[0].numpy(), layer, uncertainty(answer, kind).item()))
    probabilities, layers, entropies = map(np.array, zip(*found, strict=True))
    return Predictions(probabilities, layers, entropies, kind)


def save_student(model: StudentModel, folder: Path) -> Path:
    """As a training stage leaves it."""
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    (folder / "history.json").write_text('{"curves": {}}', encoding="utf-8")
    return folder


_EXPORTED: dict[str, Path] = {}
"""An export takes seconds and always gives the same: once a process and kind is enough."""


def exported_student(folder: Path, task: TaskParams = TASK, rows: int = 40, **params: Any) -> Path:
    """A folder that Predictor.load reads; its wish is loose enough that some texts leave early."""
    wanted = f"{task} {rows} {sorted(params.items())}"
    if wanted not in _EXPORTED:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checking, "trace", traced)
            _EXPORTED[wanted] = export_student(Path(tempfile.mkdtemp(prefix="kd-exported-")), task, rows, **params)
    shutil.copytree(_EXPORTED[wanted], folder / "student")
    return folder / "student"


def export_student(folder: Path, task: TaskParams = TASK, rows: int = 40, **params: Any) -> Path:
    """The same, exported anew."""
    trained = save_student(tiny_student(folder), folder / "trained")
    write_rows(folder / "calibration.parquet", tiny_rows(rows, pair=task.pair))
    write_rows(folder / "valid.parquet", tiny_rows(40, pair=task.pair, seed=5))
    wanted = LOOSE.model_copy(update=params)
    files = [folder / f"{name}.parquet" for name in ("calibration", "valid")]
    export(trained, files[0], folder / "student", task, wanted, valid=files[1])
    return folder / "student"
