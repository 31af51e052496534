"""Planted models and champions for the gate, and its decision on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from kd_core.config.data import CLASSIFICATION
from kd_core.config.evaluation import GateParams
from kd_core.runtime.arrays import Booleans, Floats
from kd_ops.promotion import gate
from kd_ops.promotion.evidence import (
    Champion,
    Decision,
    Groups,
    JudgedRows,
    Measured,
    Origin,
    Speed,
)
from tests.helpers.counting import row_counts, share

GATE = GateParams(min_accuracy=0.7, min_share_of_best_teacher=0.9, margin=0.02, max_latency_ms=50)
LABELS = ("red", "green", "blue")
N = 4000
GROUPS = np.array([f"g{i // 2}" for i in range(N)])


HERE = Speed(latency_ms=2.0, relative=0.5, machine="here")


def decide(
    limits: GateParams,
    model: Measured,
    correct: Booleans,
    groups: Groups,
    old: Champion | None,
    slices: dict[str, Booleans] | None = None,
    tfidf: Floats | None = None,
    origin: Origin | None = None,
) -> Decision:
    rows = JudgedRows(row_counts(correct), groups, share, tfidf, slices or {})
    return gate.decide(limits, model, rows, old, origin)


def measured(correct: np.ndarray, **values: object) -> Measured:
    base = Measured(
        weights="new",
        labels=LABELS,
        accuracy=float(correct.mean()),
        best_teacher_accuracy=0.9,
        speedup=5.0,
        speed=HERE,
        kind=CLASSIFICATION,
    )
    return replace(base, **values)


def champion(correct: np.ndarray, **values: object) -> Champion:
    return replace(Champion("3", "old", LABELS, row_counts(correct), HERE, CLASSIFICATION), **values)


def answers(wrong: int, n: int = N, first: int = 0) -> np.ndarray:
    """[n] bool, `wrong` of them False, evenly spread from `first` on."""
    correct = np.ones(n, dtype=bool)
    correct[(first + np.arange(wrong) * (n // max(wrong, 1))) % n] = False
    return correct


def worse_by(correct: Booleans, rows: int) -> Booleans:
    """Wrong on so many rows more, evenly spread."""
    found, right = correct.copy(), np.flatnonzero(correct)
    found[right[:: len(right) // rows][:rows]] = False
    return found
