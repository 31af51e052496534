"""Writes a table to a file, whatever its kind; what a kind cannot hold is known before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.runtime.files import whole
from kd_core.tables.cells import as_csv, as_json, is_absent, values_of
from kd_core.tables.csv_files import write_csv
from kd_core.tables.formats import known_format
from kd_core.tables.jsonl_files import write_jsonl
from kd_core.tables.parquet_files import typed, write_parquet

WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}


def writable(path: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with each cell as the file will hold it.

    Raises InvalidDataError for a name that tells no format, and naming the column that a file of this kind cannot hold.
    """
    prepare = _PREPARE[known_format(path).kind]
    columns = {name: prepare(rows[name], f"{path}: column {str(name)!r}") for name in rows.columns}
    return pd.DataFrame({name: column.set_axis(rows.index) for name, column in columns.items()}, index=rows.index)


def write_table(path: Path, rows: pd.DataFrame) -> None:
    """Write all rows, whole or not at all. Raises as `writable`."""
    form, prepared = known_format(path), writable(path, rows)
    with whole(path) as partial:
        WRITERS[form.kind](partial, prepared, form)


def _csv_column(column: pd.Series, where: str) -> pd.Series:
    return pd.Series([as_csv(cell, where) for cell in values_of(column)], dtype=object)


def _jsonl_column(column: pd.Series, where: str) -> pd.Series:
    """A row may lack a key only where the column holds any kind of value, as a jsonl file's do."""
    lacking = column.map(is_absent).tolist() if column.dtype == object else [False] * len(column)
    cells: list[Any] = [as_json(cell, where) for cell in values_of(column)]
    kept = [float("nan") if absent else cell for absent, cell in zip(lacking, cells, strict=True)]
    return pd.Series(kept, dtype=object)


def _parquet_column(column: pd.Series, where: str) -> pd.Series:
    if isinstance(column.dtype, pd.ArrowDtype):
        return column
    return typed(values_of(column) if column.dtype == object else column, where)


_PREPARE = {"csv": _csv_column, "jsonl": _jsonl_column, "parquet": _parquet_column}
