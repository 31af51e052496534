"""Prepares one teacher: fetches it, fine-tunes it if its spec says so, checks it against gold labels and saves it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.base import Component, Context, run
from components.fetch import fetch_resolved
from components.training import work, write_history
from components.weights import resolved
from kd_core.config.data import TaskParams
from kd_core.config.teachers import TeacherParams

if TYPE_CHECKING:
    from kd_core.teachers.model import Teacher

COMPONENT = Component(
    stage="teach",
    items=("teacher",),
    params=("teachers.{teacher}", "data.{teacher.data}.task", "resolved.teachers.{teacher}"),
    inputs={
        "train": "data/checked/{teacher.data}/train.parquet",
        "valid": "data/checked/{teacher.data}/valid.parquet",
    },
    outputs={"teacher": "teachers/{teacher}"},
)


def main(context: Context) -> None:
    """Write the teacher's folder with teacher.json and history.json."""
    from kd_core.rows import read_rows
    from kd_core.teachers.contract import check_teacher
    from kd_core.teachers.model import save_teacher
    from kd_core.teachers.teaching import fine_tune

    params = context.section(f"teachers.{context.items['teacher']}", TeacherParams)
    task = context.section(f"data.{params.data}.task", TaskParams)
    train, valid = (read_rows(context.input(split)) for split in ("train", "valid"))
    teacher = _prepare(context, params, task)
    curves = {}
    if params.fine_tune is not None:
        curves = fine_tune(teacher, train, valid, params.fine_tune, work(context, teacher.tokenizer))
    contract = check_teacher(teacher, valid, task)
    folder = context.output("teacher")
    save_teacher(teacher, folder, contract)
    write_history(folder, curves, rows=len(train) if curves else 0)


def _prepare(context: Context, params: TeacherParams, task: TaskParams) -> Teacher:
    import torch

    from kd_core.models.weights import local_folder
    from kd_core.teachers.model import prepare

    name = context.items["teacher"]
    pinned = resolved(context, f"teachers.{name}")
    folder = local_folder(fetch_resolved({"address": params.weights, **pinned}))
    if params.fine_tune is not None:
        torch.manual_seed(params.fine_tune.seed)  # the new classifier's weights
    return prepare(name, params, task, folder, _tokenizer_folder(params, pinned))


def _tokenizer_folder(params: TeacherParams, pinned: Mapping[str, Any]) -> Path | None:
    if params.tokenizer is None:
        return None
    from kd_core.models.weights import local_path

    return local_path(fetch_resolved({"address": params.tokenizer, **pinned.get("tokenizer", {})}))


if __name__ == "__main__":
    run(COMPONENT, main)
