"""Between the stages: new decoders for gold labels and reference teachers on the pre-trained encoder."""

from __future__ import annotations

from components.base import Component, Context, run
from components.training import save_student
from kd_core.config.data import TaskParams

COMPONENT = Component(
    stage="update",
    params=("student.combine", "student.seed", "finetune.decoders", "finetune.teachers", "data.reference.task"),
    inputs={"model": "models/pretrain"},
    outputs={"model": "models/update"},
)


def main(context: Context) -> None:
    """Write models/update."""
    from kd_core.distill.update import update
    from kd_core.models.loading import load_tokenizer
    from kd_core.models.student import StudentModel

    folder = context.input("model")
    model, tokenizer = StudentModel.from_pretrained(folder), load_tokenizer(folder)
    task = context.section("data.reference.task", TaskParams)
    second = [] if context.value("finetune.decoders") == "one" else context.value("finetune.teachers")
    combine, seed = context.value("student.combine"), context.value("student.seed")
    update(model, second, task.labels, combine, task.kind, seed)
    save_student(context.output("model"), model, tokenizer, {})


if __name__ == "__main__":
    run(COMPONENT, main)
