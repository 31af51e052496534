"""What faster arithmetic costs: how far a teacher's bf16 answers are from its fp32 answers on the texts it scores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from kd_core.runtime.progress import Progress
from kd_core.tasks import decide, heads
from kd_core.tasks.units import Units
from kd_core.teachers.model import Teacher
from kd_core.teachers.score_keys import row_keys
from kd_core.teachers.score_store import ScoreStore
from kd_core.teachers.scoring import score

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 256
"""Texts compared; enough to see a flip rate of one in a hundred."""


def bf16_difference(folder: Path, rows: pd.DataFrame, store: ScoreStore, device: str = "cpu") -> dict[str, Any]:
    """Compare the teacher saved in `folder` with itself in bf16 on at most SAMPLE of `rows`, drawn by their hash.

    Both answers are taken from `store` or put there, so a second call computes nothing; where few rows change, few are
    drawn anew. Returns rows, the largest and the mean difference of a probability, and labels_changed, the share of
    texts that are given another label, or other labels.
    """
    exact, fast = (Teacher.load(folder, precision=precision) for precision in ("fp32", "bf16"))
    chosen = rows.iloc[np.argsort(row_keys(rows, exact.pair), kind="stable")[:SAMPLE]]
    task, found = decide.of(exact.kind), [_probabilities(teacher, chosen, store, device) for teacher in (exact, fast)]
    difference = np.abs(found[0].values - found[1].values)
    same = task.same(*(task.decisions(each) for each in found))
    return {
        "rows": len(chosen),
        "largest": round(float(difference.max()), 6),
        "mean": round(float(difference.mean()), 8),
        "labels_changed": round(float((~same).mean()), 6),
    }


def _probabilities(teacher: Teacher, rows: pd.DataFrame, store: ScoreStore, device: str) -> Units:
    teacher.model.to(device)
    logits = score(teacher, rows, store, Progress("bf16"))  # seconds of work: no progress of its own
    return logits.with_values(heads.of(teacher.kind).probabilities(torch.from_numpy(logits.values)).numpy())
