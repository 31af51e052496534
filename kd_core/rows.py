"""Rows of a data set in memory (pandas) and on disk (Parquet), with one fixed schema for every split."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.runtime.errors import InvalidDataError

COLUMNS = ("id", "group", "text", "text_pair", "label")
"""All columns, in the order of the file; `text_pair` stands only in data sets of pairs."""

_NULLABLE = frozenset({"text", "text_pair", "label"})


def schema(pair: bool) -> pa.Schema:
    """The Arrow schema of a split; text may be null before validation, a label wherever there is none."""
    names = [name for name in COLUMNS if pair or name != "text_pair"]
    return pa.schema([pa.field(name, pa.string(), nullable=name in _NULLABLE) for name in names])


def read_rows(path: Path) -> pd.DataFrame:
    """The rows of one split, nulls as None.

    Raises InvalidDataError naming the file if it is missing, not Parquet, lacks a column or has one of another type.
    """
    if not path.is_file():
        raise InvalidDataError(f"{path}: missing; run the stage that writes it")
    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidDataError(f"{path}: not a readable Parquet file ({error}); write it again") from None
    wanted = schema(pair="text_pair" in table.column_names)
    for field in wanted:
        if field.name not in table.column_names:
            raise InvalidDataError(f"{path}: no column {field.name!r} (there: {', '.join(table.column_names)})")
        found = table.schema.field(field.name).type
        if not (pa.types.is_string(found) or pa.types.is_large_string(found) or pa.types.is_null(found)):
            raise InvalidDataError(f"{path}: column {field.name!r} holds {found}, not text")
        if not field.nullable and table.column(field.name).null_count:
            raise InvalidDataError(f"{path}: column {field.name!r} has empty cells")
    return pd.DataFrame({name: _objects(table.column(name)) for name in wanted.names})


def write_rows(path: Path, frame: pd.DataFrame) -> None:
    """Write one split, sorted by id, whole or not at all; equal rows give equal bytes."""
    ordered = frame.sort_values("id", kind="stable")
    wanted = schema(pair="text_pair" in frame.columns)
    arrays = [pa.array(nulls_as_none(ordered[name]), type=pa.string()) for name in wanted.names]
    write_table(path, pa.table(arrays, schema=wanted))


def write_table(path: Path, table: pa.Table) -> None:
    """Write any Arrow table as Parquet through a temporary file and a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        pq.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def rows_hash(frame: pd.DataFrame) -> str:
    """sha256 over ids, texts and labels; the order of rows does not count, nor does the group, which is derived."""
    names = [name for name in COLUMNS if name in frame.columns and name != "group"]
    columns = [nulls_as_none(frame[name]) for name in names]
    digest = hashlib.sha256(repr(names).encode())
    for line in sorted(repr(cells) for cells in zip(*columns, strict=True)):
        digest.update(line.encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def nulls_as_none(column: pd.Series) -> list[str | None]:
    """The column as a list, whatever pandas uses for missing values replaced by None."""
    return [None if missing else str(cell) for cell, missing in zip(column.tolist(), column.isna(), strict=True)]


def _objects(column: pa.ChunkedArray) -> pd.Series:
    return pd.Series(column.to_pylist(), dtype=object)
