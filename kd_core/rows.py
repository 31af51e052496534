"""Rows of a data set in memory (pandas) and on disk (Parquet), with one fixed schema for every split.

A label is text. Where rows may have several it is a list of texts on disk (text in a split without labelled rows) and
a tuple in memory, `()` where none applies. Null is unlabelled in both cases.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.files import whole

COLUMNS = ("id", "group", "text", "text_pair", "label")
"""All columns, in the order of the file; `text_pair` stands only in data sets of pairs."""

Label = str | tuple[str, ...]
"""What a labelled row has: its label, or all labels that apply."""

_NULLABLE = frozenset({"text", "text_pair", "label"})
_LISTED = pa.list_(pa.string())


def schema(pair: bool, multi_label: bool = False) -> pa.Schema:
    """The Arrow schema of a split; text may be null before validation, a label wherever there is none."""
    names = [name for name in COLUMNS if pair or name != "text_pair"]
    types = {"label": _LISTED} if multi_label else {}
    return pa.schema([pa.field(name, types.get(name, pa.string()), nullable=name in _NULLABLE) for name in names])


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
        values = found.value_type if field.name == "label" and _is_list(found) else found
        if not (pa.types.is_string(values) or pa.types.is_large_string(values) or pa.types.is_null(values)):
            raise InvalidDataError(f"{path}: column {field.name!r} holds {found}, not text")
        if not field.nullable and table.column(field.name).null_count:
            raise InvalidDataError(f"{path}: column {field.name!r} has empty cells")
    return pd.DataFrame({name: _objects(table.column(name)) for name in wanted.names})


def write_rows(path: Path, frame: pd.DataFrame) -> None:
    """Write one split, sorted by id, whole or not at all; equal rows give equal bytes."""
    ordered = frame.sort_values("id", kind="stable")
    listed = any(isinstance(cell, tuple) for cell in frame["label"])
    wanted = schema(pair="text_pair" in frame.columns, multi_label=listed)
    cells = {"label": label_sets(ordered["label"])} if listed else {}
    arrays = [pa.array(cells.get(f.name, nulls_as_none(ordered[f.name])), type=f.type) for f in wanted]
    write_table(path, pa.table(arrays, schema=wanted))


def write_table(path: Path, table: pa.Table) -> None:
    """Write any Arrow table as Parquet, whole or not at all."""
    with whole(path) as partial:
        pq.write_table(table, partial, compression="zstd")


def rows_hash(frame: pd.DataFrame) -> str:
    """sha256 over ids, texts and labels; the order of rows does not count, nor does the group, which is derived."""
    names = [name for name in COLUMNS if name in frame.columns and name != "group"]
    columns = [label_cells(frame[name]) if name == "label" else nulls_as_none(frame[name]) for name in names]
    digest = hashlib.sha256(repr(names).encode())
    for line in sorted(repr(cells) for cells in zip(*columns, strict=True)):
        digest.update(line.encode("utf-8", "surrogatepass"))
        digest.update(b"\n")
    return digest.hexdigest()


def nulls_as_none(column: pd.Series) -> list[str | None]:
    """The column as a list, whatever pandas uses for missing values replaced by None."""
    return [None if missing else str(cell) for cell, missing in zip(column.tolist(), column.isna(), strict=True)]


def label_cells(column: pd.Series) -> list[Label | None]:
    """A column of labels as a list: texts, or tuples of them; None where a row is unlabelled."""
    cells = zip(column.tolist(), column.isna(), strict=True)
    return [None if missing else cell if isinstance(cell, tuple) else str(cell) for cell, missing in cells]


def label_sets(column: pd.Series) -> list[tuple[str, ...] | None]:
    """A column of labels as the labels of each row, whether it may have one or several; None where it is unlabelled."""
    return [None if cell is None else labels_of(cell) for cell in label_cells(column)]


def labels_of(label: str | Iterable[str]) -> tuple[str, ...]:
    """The labels of a labelled row: its one label, or those that apply."""
    return (label,) if isinstance(label, str) else tuple(label)


def _is_list(found: pa.DataType) -> bool:
    return bool(pa.types.is_list(found) or pa.types.is_large_list(found))


def _objects(column: pa.ChunkedArray) -> pd.Series:
    cells = [tuple(cell) if isinstance(cell, list) else cell for cell in column.to_pylist()]
    return pd.Series(cells, dtype=object)
