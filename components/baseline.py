"""What distillation must beat: the student fine-tuned on the gold labels alone, its frozen base, and TF-IDF."""

from __future__ import annotations

from components.base import Component, Context, run
from components.training import save_student, work
from components.weights import base_folder
from kd_core.config.data import TaskParams
from kd_core.config.evaluation import BaselineParams
from kd_core.config.student import StudentParams
from kd_core.config.training import Distillation, FinetuneParams, Optimisation

COMPONENT = Component(
    stage="baseline",
    params=("student", "baseline", "data.reference.task", "resolved.student"),
    inputs={
        "train": "data/checked/reference/train.parquet",
        "valid": "data/checked/reference/valid.parquet",
    },
    outputs={"alone": "models/alone", "frozen": "models/frozen", "tfidf": "models/tfidf"},
)


def main(context: Context) -> None:
    """Write models/alone, models/frozen and models/tfidf."""
    from kd_core.distill.finetune import Scored, finetune
    from kd_core.inference import frozen_encoder
    from kd_core.models.layers import check_length
    from kd_core.models.loading import load_tokenizer
    from kd_core.models.new_student import new_student
    from kd_core.rows import read_rows
    from kd_core.tasks import baseline
    from kd_core.tasks.heads.modules import GOLD

    student = context.section("student", StudentParams)
    task = context.section("data.reference.task", TaskParams)
    train, valid = (read_rows(context.input(split)) for split in ("train", "valid"))
    base = base_folder(context, student.base)
    model = new_student(student, {GOLD: task.labels}, task.labels, base, task.kind)
    check_length(model, task.max_length, "data.reference.task", "set it to no more, or take another base")
    tokenizer = load_tokenizer(base)
    params = _gold_alone(context.section("baseline", BaselineParams).optimisation)
    curves = finetune(model, Scored(train), Scored(valid), task, params, work(context, tokenizer))
    save_student(context.output("alone"), model, tokenizer, curves, rows=len(train))
    frozen_encoder.fit(base, train, task).save(context.output("frozen"))
    baseline.of(task.kind).fit(train, task, context.output("tfidf"))


def _gold_alone(optimisation: Optimisation) -> FinetuneParams:
    """Params with every value given: the defaults of `finetune` are no part of this stage's key."""
    return FinetuneParams(
        teachers=(),
        decoders="per_teacher",
        optimisation=optimisation,
        distillation=Distillation(divergence="kl", temperature=1.0),
        alpha=0.0,
        teacher_weights="uniform",
        decoder_weights="uniform",
    )


if __name__ == "__main__":
    run(COMPONENT, main)
