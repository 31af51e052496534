"""What a cell is as text: one rule for training and for prediction, whatever file or data set it came from.

Text stays as it is; numbers, dates and booleans are written as JSON and ISO 8601 write them; bytes are read as UTF-8.
Nothing else is text: lists, objects and durations are refused, since a model would learn how a program shows them.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from kd_core.runtime.errors import InvalidDataError

_NOT_UTF8 = "bytes that are not UTF-8"
_NAMES: dict[type, str] = {dict: "an object", list: "a list", tuple: "a list", set: "a list", bytes: _NOT_UTF8}


class NotTextError(Exception):
    """A cell has no form as text; the message says what it is."""


def is_absent(cell: Any) -> bool:
    """NaN, which stands where a row lacks a key that other rows have, and where pandas has no value."""
    return isinstance(cell, float) and cell != cell


def is_null(cell: Any) -> bool:
    """Whether there is nothing in the cell, in any way in which pandas says so."""
    return cell is None or cell is pd.NA or cell is pd.NaT or is_absent(cell)


def as_text(cell: Any) -> str | None:
    """The cell as text; None for a null. Raises NotTextError for what is neither."""
    if isinstance(cell, str) or is_null(cell):
        return str(cell) if isinstance(cell, str) else None
    if isinstance(cell, bool | np.bool_):
        return "true" if cell else "false"
    if isinstance(cell, bytes):
        return _decoded(cell)
    if isinstance(cell, Decimal):
        return format(cell, "f")
    if isinstance(cell, datetime.datetime | datetime.date | datetime.time):
        return cell.isoformat()
    if isinstance(cell, int | float | np.integer | np.floating):
        return str(cell)
    raise NotTextError(_NAMES.get(type(cell), f"a {type(cell).__name__.lower()}"))


def texts_of(column: pd.Series, where: str, advice: str = "give one text a row") -> list[str | None]:
    """The cells of a column as text; None where there is none.

    `where` names file and column, `advice` says what to do about other cells. Raises InvalidDataError naming the row.
    """
    found: list[str | None] = []
    for row, cell in enumerate(values_of(column), start=1):
        try:
            found.append(as_text(cell))
        except NotTextError as error:
            raise InvalidDataError(f"{where}, row {row}: {error}{_type_of(column)}, not text; {advice}") from None
    return found


def values_of(column: pd.Series) -> list[Any]:
    """The cells as Python values, None where there is none; an Arrow map is a dict."""
    if not isinstance(column.dtype, pd.ArrowDtype):
        cells = column.tolist()
        if column.dtype == np.float32:
            cells = _as_written(cells)
        return [None if is_null(cell) else cell for cell in cells]
    arrow = column.dtype.pyarrow_dtype
    cells = pa.array(column).to_pylist()
    if pa.types.is_map(arrow):
        return [None if cell is None else dict(cell) for cell in cells]
    if pa.types.is_float32(arrow):
        cells = _as_written(cells)
    return [None if is_null(cell) else cell for cell in cells]


def as_json(cell: Any, where: str) -> Any:
    """The cell as values that JSON knows. Raises InvalidDataError for bytes and the like."""
    if isinstance(cell, dict):
        return {str(key): as_json(value, where) for key, value in cell.items()}
    if isinstance(cell, list | tuple | np.ndarray):
        return [as_json(value, where) for value in cell]
    if isinstance(cell, bool | int | float) and not is_absent(cell):
        return cell
    if isinstance(cell, datetime.timedelta):
        return pd.Timedelta(cell).isoformat()
    try:
        return as_text(cell)
    except NotTextError as error:
        raise InvalidDataError(f"{where} holds {error}, which this kind of file cannot; write Parquet") from None


def as_csv(cell: Any, where: str) -> str | None:
    """The cell as a csv file holds it: as text, lists and objects as JSON. Raises InvalidDataError as `as_json`."""
    plain = as_json(cell, where)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, list | dict) else as_text(plain)


def _decoded(cell: bytes) -> str:
    try:
        return cell.decode("utf-8")
    except UnicodeDecodeError:
        raise NotTextError(_NOT_UTF8) from None


def _as_written(cells: Sequence[float | None]) -> list[float | None]:
    """Numbers of 32 bits as the shortest decimals that mean them: 0.1, not 0.10000000149011612."""
    return [None if cell is None else float(str(np.float32(cell))) for cell in cells]


def _type_of(column: pd.Series) -> str:
    kind = column.dtype
    return f" (the column's type is {kind.pyarrow_dtype})" if isinstance(kind, pd.ArrowDtype) else ""
