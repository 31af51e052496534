"""The shared code of both stages of teacher scoring: one table of logits for exactly the rows of a training stage.

Calibration and test rows are never scored, since no training may see them.
"""

from __future__ import annotations

from components.base import Component, Context
from kd_core.config.data import Role


def scoring(role: Role, *splits: str) -> Component:
    """The interface of the stage that scores these splits of a role's data."""
    return Component(
        stage=f"score_{role}",
        items=("teacher",),
        inputs={"teacher": "teachers/{teacher}", **{name: f"data/checked/{role}/{name}.parquet" for name in splits}},
        outputs={"scores": f"scores/{role}/{{teacher}}"},
    )


def score_splits(context: Context) -> None:
    """Score the splits that the stage reads with one teacher, or take the scores that the store already has."""
    import pandas as pd
    import torch

    from kd_core.rows import read_rows
    from kd_core.teachers.model import Teacher
    from kd_core.teachers.precision import bf16_difference
    from kd_core.teachers.score_store import ScoreStore
    from kd_core.teachers.score_table import write_scores
    from kd_core.teachers.scoring import score, spec_of

    frames = {split: read_rows(context.input(split)) for split in context.inputs if split != "teacher"}
    teacher = Teacher.load(context.input("teacher"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher.model.to(device)
    store = ScoreStore(f"{context.store_url}/scores")
    rows = pd.concat(list(frames.values()), ignore_index=True)
    logits = score(teacher, rows, store, context.progress)
    cost = bf16_difference(context.input("teacher"), rows, store, device) if teacher.precision == "bf16" else None
    write_scores(context.output("scores"), teacher.name, spec_of(teacher), frames, logits, teacher.kind, cost)
