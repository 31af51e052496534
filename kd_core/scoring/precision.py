"""What faster arithmetic costs: how far a teacher's bf16 answers are from its fp32 answers on the texts it scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kd_core.models.teacher import Teacher
from kd_core.scoring.score import logits_of
from kd_core.tasks.decisions import Floats, decisions
from kd_core.tasks.decode import probabilities

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 256
"""Texts compared; enough to see a flip rate of one in a hundred."""


def bf16_difference(folder: Path, rows: pd.DataFrame, device: str = "cpu") -> dict[str, Any]:
    """Compare the teacher saved in `folder` with itself in bf16 on at most SAMPLE of `rows`, spread evenly.

    Returns rows, the largest and the mean difference of a probability, and labels_changed, the share of texts that are
    given another label, or other labels.
    """
    chosen = rows.iloc[:: max(1, len(rows) // SAMPLE)].head(SAMPLE)
    exact, fast = (Teacher.load(folder, precision=precision) for precision in ("fp32", "bf16"))
    kind, found = exact.kind, [_probabilities(teacher, chosen, device) for teacher in (exact, fast)]
    difference = np.abs(found[0] - found[1])
    first, second = (decisions(each, kind).reshape(len(chosen), -1) for each in found)
    return {
        "rows": len(chosen),
        "largest": round(float(difference.max()), 6),
        "mean": round(float(difference.mean()), 8),
        "labels_changed": round(float((first != second).any(1).mean()), 6),
    }


def _probabilities(teacher: Teacher, rows: pd.DataFrame, device: str) -> Floats:
    teacher.model.to(device)
    return probabilities(logits_of(teacher, rows), teacher.kind).numpy()
