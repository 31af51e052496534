"""A tiny random student of the kind in `digits`, sure of some texts and unsure of others, exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoConfig

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams
from kd_core.export.stage import export
from kd_core.models.student import StudentModel
from kd_core.models.student_config import StudentConfig
from kd_core.rows import write_rows
from tests.helpers import digits
from tests.helpers.tiny import tiny_base

digits.register()
TASK = TaskParams(kind=digits.KIND, labels=digits.LABELS, max_length=24)
LAYERS = 3


def digit_rows(n: int, seed: int = 0) -> pd.DataFrame:
    """As a split has them, each row a group of its own."""
    rows = digits.rows(n, seed)
    names = [f"row{index:03}" for index in range(n)]
    return rows.assign(id=names, group=names, label=[tuple(counts.split("|")) for counts in rows["label"]])


def trained_student(folder: Path) -> Path:
    """As self_distill leaves it: three layers, two branches, weights large enough that texts are told apart."""
    base = tiny_base(folder / "base", layers=LAYERS, hidden=32, tokenizer=digits.tokenizer())
    encoder = AutoConfig.from_pretrained(base).to_dict()
    encoder.pop("_name_or_path", None)
    labels = list(digits.LABELS)
    torch.manual_seed(0)
    config = StudentConfig(encoder=encoder, decoders={"gold": labels}, labels=labels, kd_kind=digits.KIND)
    model = StudentModel(config)
    model.add_branches(width=16)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.mul_(40.0 if "branches" in name else 12.0)
    model.save_pretrained(folder / "trained")
    digits.tokenizer().save_pretrained(folder / "trained")
    return folder / "trained"


def exported_student(folder: Path, **params: Any) -> Path:
    """A folder that Predictor.load reads; its wish is loose enough that some texts leave early."""
    for number, split in enumerate(("calibration", "valid")):
        write_rows(folder / f"{split}.parquet", digit_rows(40, seed=number))
    wanted = ExportParams(**{"max_disagreement": 0.5, "confidence": 0.6, **params})
    calibration, valid = (folder / f"{split}.parquet" for split in ("calibration", "valid"))
    export(trained_student(folder), calibration, folder / "student", TASK, wanted, valid=valid)
    return folder / "student"
