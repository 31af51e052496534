"""Stage one: a new student learns from the pre-training teachers' scores, with one initial decoder for each teacher.

Without teachers and without a live teacher nothing is trained: the new student is written with its initial weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from components.base import Component, Context, run
from components.training import save_student, work
from components.weights import base_folder
from kd_core.config.data import TaskParams
from kd_core.config.student import StudentParams
from kd_core.config.training import PretrainParams

if TYPE_CHECKING:
    from kd_core.models.student import StudentModel
    from kd_core.teachers.model import Teacher
    from kd_core.training.checkpoint import Curves

COMPONENT = Component(
    stage="pretrain",
    params=("student", "pretrain", "data.pretraining.task", "data.reference.task", "resolved.student"),
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
    from kd_core.models.layers import check_length
    from kd_core.models.loading import load_tokenizer
    from kd_core.models.new_student import new_student
    from kd_core.tasks.heads.modules import GOLD
    from kd_core.teachers.score_table import read_score_record

    params, student = context.section("pretrain", PretrainParams), context.section("student", StudentParams)
    role = "reference" if context.value("data.pretraining.task") is None else "pretraining"
    task = context.section(f"data.{role}.task", TaskParams)
    records = {name: read_score_record(context.input("scores") / name) for name in params.teachers}
    # A student needs a decoder; without teachers it gets one for gold labels, which `update` replaces.
    decoders = {name: record["labels"] for name, record in records.items()} or {GOLD: task.labels}
    kinds = {name: record["kind"] for name, record in records.items()}
    base = base_folder(context, student.base)
    model = new_student(student, decoders, task.labels, base, task.kind, kinds)
    for each in ("pretraining", "reference"):
        if context.value(f"data.{each}.task") is not None:
            asked = context.section(f"data.{each}.task", TaskParams).max_length
            check_length(model, asked, f"data.{each}.task", "set it to no more, or take another base")
    tokenizer = load_tokenizer(base)
    curves: Curves = {}
    rows = 0
    if params.teachers or params.live_teacher != "none":
        curves, rows = _train(context, params, task, model, tokenizer)
    save_student(context.output("model"), model, tokenizer, curves, rows=rows)


def _train(
    context: Context, params: PretrainParams, task: TaskParams, model: StudentModel, tokenizer: Any
) -> tuple[Curves, int]:
    """Train `model` in place; returns its curves and the number of texts."""
    import pandas as pd

    from kd_core.distill.pretrain import pretrain
    from kd_core.rows import read_rows
    from kd_core.teachers.score_table import read_scores

    rows = pd.concat([read_rows(context.input(split)) for split in ("train", "unlabelled")], ignore_index=True)
    rows = rows.drop_duplicates("id").sort_values("id", ignore_index=True)
    folder = context.input("scores")
    scores = {name: read_scores(folder / name, {"name": name}, rows) for name in params.teachers}
    live = _live_teacher(context, params)
    return pretrain(model, rows, scores, task, params, live, work(context, tokenizer)), len(rows)


def _live_teacher(context: Context, params: PretrainParams) -> Teacher | None:
    from kd_core.teachers.model import Teacher

    return None if params.live_teacher == "none" else Teacher.load(context.input("live_teacher"))


if __name__ == "__main__":
    run(COMPONENT, main)
