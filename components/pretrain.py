"""Stage one: a new student learns from the pre-training teachers' scores, one initial decoder a teacher."""

from __future__ import annotations

from typing import TYPE_CHECKING

from components.base import Component, Context, run
from components.training import save_student
from components.weights import base_folder
from kd_core.config.data import TaskParams
from kd_core.config.student import StudentParams
from kd_core.config.training import PretrainParams

if TYPE_CHECKING:
    from kd_core.models.teacher import Teacher

COMPONENT = Component(
    stage="pretrain",
    params=("student", "pretrain", "data.reference.task", "resolved.student"),
    inputs={
        "train": "data/checked/pretraining/train.parquet",
        "unlabelled": "data/checked/pretraining/unlabelled.parquet",
        "scores": "scores/pretraining",
        "live_teacher": "teachers/{pretrain.live_teacher}",
    },
    outputs={"model": "models/pretrain"},
)


def main(context: Context) -> None:
    """Write models/pretrain."""
    import pandas as pd

    from kd_core.distill.pretrain import pretrain
    from kd_core.models.loading import load_tokenizer
    from kd_core.models.student import new_student
    from kd_core.rows import read_rows
    from kd_core.scoring.table import read_score_record, read_scores

    params, student = context.section("pretrain", PretrainParams), context.section("student", StudentParams)
    task = context.section("data.reference.task", TaskParams)
    rows = pd.concat([read_rows(context.input(split)) for split in ("train", "unlabelled")], ignore_index=True)
    rows = rows.drop_duplicates("id").sort_values("id", ignore_index=True)
    folders = {name: context.input("scores") / name for name in params.teachers}
    scores = {name: read_scores(folder, {"name": name}, rows) for name, folder in folders.items()}
    records = {name: read_score_record(folder) for name, folder in folders.items()}
    decoders = {name: record["labels"] for name, record in records.items()}
    kinds = {name: record["kind"] for name, record in records.items() if record["kind"] != task.kind}
    base = base_folder(context, student.base)
    model = new_student(student, decoders, task.labels, base, task.kind, kinds)
    tokenizer = load_tokenizer(base)
    live = _live_teacher(context, params)
    curves = pretrain(model, tokenizer, rows, scores, task, params, live, context.progress, context.state)
    save_student(context.output("model"), model, tokenizer, curves, rows=len(rows))


def _live_teacher(context: Context, params: PretrainParams) -> Teacher | None:
    from kd_core.models.teacher import Teacher

    return None if params.live_teacher == "none" else Teacher.load(context.input("live_teacher"))


if __name__ == "__main__":
    run(COMPONENT, main)
