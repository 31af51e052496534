"""Rows of a csv through ingest and validate, and what is on record of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.helpers.workspace import files_data, record, stage, texts, write_csv, write_params

Rows = list[tuple[Any, ...]]


def prepare(root: Path, rows: Rows, **more: Any) -> None:
    root.mkdir(exist_ok=True)
    write_params(root, files_data(str(write_csv(root / "rows.csv", rows)), **more))


def check(root: Path, rows: Rows, **more: Any) -> dict[str, Any]:
    prepare(root, rows, **more)
    stage(root, "ingest")
    stage(root, "ingest", "pretraining")
    stage(root, "validate")
    return record(root, "checked")


def without_text(share: float) -> Rows:
    rows = texts(300)
    return [(None if i % round(1 / share) == 0 else text, label) for i, (text, label) in enumerate(rows)]
