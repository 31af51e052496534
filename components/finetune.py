"""Stage two: the student learns from gold labels and the reference teachers' scores."""

from __future__ import annotations

from components.base import Component, Context, run
from components.training import save_student, work
from kd_core.config.data import TaskParams
from kd_core.config.training import FinetuneParams

COMPONENT = Component(
    stage="finetune",
    params=("finetune", "data.reference.task"),
    inputs={
        "model": "models/update",
        "train": "data/checked/reference/train.parquet",
        "valid": "data/checked/reference/valid.parquet",
        "unlabelled": "data/checked/reference/unlabelled.parquet",
        "scores": "scores/reference",
    },
    outputs={"model": "models/finetune"},
)


def main(context: Context) -> None:
    """Write models/finetune."""
    import pandas as pd

    from kd_core.distill.finetune import Scored, finetune
    from kd_core.models.loading import load_tokenizer
    from kd_core.models.student import StudentModel
    from kd_core.rows import read_rows
    from kd_core.teachers.score_table import read_scores

    params = context.section("finetune", FinetuneParams)
    task = context.section("data.reference.task", TaskParams)
    rows, valid = (read_rows(context.input(split)) for split in ("train", "valid"))
    scores, valid_scores = {}, {}
    if params.teachers:  # without teachers an unlabelled row teaches nothing
        rows = pd.concat([rows, read_rows(context.input("unlabelled"))]).drop_duplicates("id")
        rows = rows.sort_values("id", ignore_index=True)
        expected = {"task_labels": task.labels, "kind": task.kind, "pair": task.pair}
        folders = {name: context.input("scores") / name for name in params.teachers}
        scores, valid_scores = (
            {name: read_scores(folder, {"name": name, **expected}, each) for name, folder in folders.items()}
            for each in (rows, valid)
        )
    folder = context.input("model")
    model, tokenizer = StudentModel.from_pretrained(folder), load_tokenizer(folder)
    known = Scored(valid, valid_scores)
    curves = finetune(model, Scored(rows, scores), known, task, params, work(context, tokenizer))
    labelled = int(rows["label"].notna().sum())
    save_student(context.output("model"), model, tokenizer, curves, rows=len(rows), labelled=labelled)


if __name__ == "__main__":
    run(COMPONENT, main)
