"""Teacher scoring: one table of logits for exactly the rows that a training stage reads.

Calibration and test rows are never scored, since nothing that trains may see them.
"""

from __future__ import annotations

import sys

from components.base import Component, Context, run
from kd_core.runtime.errors import ParamsError
from kd_core.runtime.progress import Progress

COMPONENTS = {
    role: Component(
        stage=f"score_{role}",
        items=("role", "teacher"),
        inputs={
            "teacher": "teachers/{teacher}",
            **{split: f"data/checked/{role}/{split}.parquet" for split in splits},
        },
        outputs={"scores": f"scores/{role}/{{teacher}}"},
    )
    for role, splits in {
        "pretraining": ("train", "unlabelled"),
        "reference": ("train", "valid", "unlabelled"),
    }.items()
}
"""By data role; one stage each."""


def main(context: Context) -> None:
    """Score the role's training splits with one teacher, or take what the store already has."""
    import pandas as pd
    import torch

    from kd_core.rows import read_rows
    from kd_core.teachers.model import Teacher
    from kd_core.teachers.precision import bf16_difference
    from kd_core.teachers.score_store import ScoreStore
    from kd_core.teachers.score_table import write_scores
    from kd_core.teachers.scoring import score, spec_of

    role, name = context.items["role"], context.items["teacher"]
    if role not in COMPONENTS:
        raise ParamsError(f"role {role!r}: one of {', '.join(COMPONENTS)}")
    splits = [split for split in COMPONENTS[role].inputs if split != "teacher"]
    frames = {split: read_rows(context.input(split)) for split in splits}
    teacher = Teacher.load(context.input("teacher"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    teacher.model.to(device)
    store = ScoreStore(f"{context.store_url}/scores")
    rows = pd.concat(list(frames.values()), ignore_index=True)
    progress = Progress.from_environment(f"score_{role}@{name}")
    logits = score(teacher, rows, store, progress)
    cost = bf16_difference(context.input("teacher"), rows, store, device) if teacher.precision == "bf16" else None
    write_scores(context.output("scores"), teacher.name, spec_of(teacher), frames, logits, teacher.kind, cost)


if __name__ == "__main__":
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    run(COMPONENTS.get(asked, COMPONENTS["reference"]), main)
