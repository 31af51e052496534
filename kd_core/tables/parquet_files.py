"""Parquet files: a type for each column, kept as it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.cells import is_null
from kd_core.tables.formats import Format


def read_parquet(path: Path, form: Format) -> pd.DataFrame:
    """All rows; each column has the file's Arrow type. Raises InvalidDataError for a file that is damaged."""
    try:
        names = pq.read_schema(path).names
        if repeated := [name for name, times in Counter(names).items() if times > 1]:
            raise InvalidDataError(f"{path}: names {', '.join(map(repr, repeated))} more than once; rename")
        table = pq.read_table(path)
        table.validate(full=True)  # texts are UTF-8
    except (pa.ArrowException, OSError) as error:
        raise InvalidDataError(f"{path}: not a readable Parquet file: {error}; write it again") from None
    rows: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype, ignore_metadata=True)
    return rows


def write_parquet(path: Path, rows: pd.DataFrame, form: Format) -> None:
    """Write rows each of whose columns has an Arrow type."""
    pq.write_table(pa.table({str(name): pa.array(rows[name]) for name in rows.columns}), path, compression="zstd")


def typed(cells: pd.Series | list[Any], where: str) -> pd.Series:
    """The cells as a column of one Arrow type. Raises InvalidDataError where they are of several."""
    try:
        found = pa.array(cells, from_pandas=True)
        return pd.Series(pd.arrays.ArrowExtensionArray(pa.chunked_array([found])))
    except (pa.ArrowException, OverflowError) as error:
        kinds = sorted({type(cell).__name__ for cell in cells if not is_null(cell)})
        raise InvalidDataError(
            f"{where} holds values of several types or too large ones ({', '.join(kinds)}: {error}), and a Parquet "
            "column has one type; write jsonl, or give the column one type"
        ) from None
