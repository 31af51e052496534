"""Branches on the inner layers learn the frozen model's answers on unlabelled text."""

from __future__ import annotations

from components.base import Component, Context, run
from components.training import save_student, work
from kd_core.config.data import TaskParams
from kd_core.config.training import SelfDistillParams

COMPONENT = Component(
    stage="self_distill",
    params=("self_distill", "data.reference.task"),
    inputs={"model": "models/finetune", "unlabelled": "data/checked/reference/unlabelled.parquet"},
    outputs={"model": "models/self_distill"},
)


def main(context: Context) -> None:
    """Write models/self_distill."""
    from kd_core.distill.self_distill import self_distill
    from kd_core.models.loading import load_tokenizer
    from kd_core.models.student import StudentModel
    from kd_core.rows import read_rows

    rows = read_rows(context.input("unlabelled"))
    params = context.section("self_distill", SelfDistillParams)
    task = context.section("data.reference.task", TaskParams)
    folder = context.input("model")
    model, tokenizer = StudentModel.from_pretrained(folder), load_tokenizer(folder)
    curves = self_distill(model, rows, task, params, work(context, tokenizer))
    save_student(context.output("model"), model, tokenizer, curves, rows=len(rows))


if __name__ == "__main__":
    run(COMPONENT, main)
