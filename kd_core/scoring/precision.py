"""What faster arithmetic costs: how far a teacher's bf16 answers are from its fp32 answers on the texts it scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from kd_core.models.teacher import Teacher
from kd_core.scoring.score import logits_of

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 256
"""Texts compared; enough to see a flip rate of one in a hundred."""


def bf16_difference(folder: Path, rows: pd.DataFrame, device: str = "cpu") -> dict[str, Any]:
    """Compare the teacher saved in `folder` with itself in bf16 on at most SAMPLE of `rows`, spread evenly.

    Returns rows, the largest and the mean difference of a probability, and labels_changed, the share of texts whose
    most probable label is another one.
    """
    chosen = rows.iloc[:: max(1, len(rows) // SAMPLE)].head(SAMPLE)
    exact, fast = (_probabilities(Teacher.load(folder, precision=kind), chosen, device) for kind in ("fp32", "bf16"))
    difference = (exact - fast).abs()
    return {
        "rows": len(chosen),
        "largest": round(float(difference.max()), 6),
        "mean": round(float(difference.mean()), 8),
        "labels_changed": round(float((exact.argmax(-1) != fast.argmax(-1)).float().mean()), 6),
    }


def _probabilities(teacher: Teacher, rows: pd.DataFrame, device: str) -> torch.Tensor:
    teacher.model.to(device)
    return logits_of(teacher, rows).softmax(-1)
