"""csv and tsv files as RFC 4180 has them: a header, every row as wide, an empty cell is a null."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.formats import Format
from kd_core.tables.text_files import read_text, write_text

_LONGEST_CELL = 1 << 30
_SHOWN_CELLS, _SHOWN_CHARACTERS = 8, 30
"""Of a wrong row, in a message."""

_QUOTES = 'put a cell with quotes in "double quotes", and write each quote inside twice ("")'

Row = list[str | None]


def read_csv(path: Path, form: Format) -> pd.DataFrame:
    """All rows; cells as text or None. A row without any cell is skipped.

    Raises InvalidDataError naming the line where the file is no valid csv, a row is not as wide as the header, or the
    header names a column twice.
    """
    csv.field_size_limit(_LONGEST_CELL)
    text = io.StringIO(read_text(path, form.gzipped), newline="")
    reader = csv.reader(text, delimiter=form.delimiter, strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise InvalidDataError(f"{path}: empty file; it needs a header line and rows")
        rows: list[Row] = []
        for row in reader:
            if len(row) != len(header) and row:
                raise InvalidDataError(_wrong_width(path, reader.line_num, row, header))
            rows += [[cell or None for cell in row]] if row else []
    except csv.Error as error:
        raise InvalidDataError(f"{path}: line {reader.line_num}: not valid csv: {error}; {_QUOTES}") from None
    return _named(path, header, rows)


def write_csv(path: Path, rows: pd.DataFrame, form: Format) -> None:
    """Write rows whose cells are texts or None. Every reader gets each cell back as it was; null and "" are one."""
    columns = [list(map(str, rows.columns)), *zip(*(rows[name] for name in rows.columns), strict=True)]
    write_text(path, "".join(_line(cells, form.delimiter) for cells in columns), form.gzipped)


def _line(cells: Iterable[str | None], delimiter: str) -> str:
    """Line breaks are quoted, a lone carriage return too: Python's writer before 3.11.9 leaves that one out."""
    line = delimiter.join(_quoted(cell or "", delimiter) for cell in cells)
    return f"{line or QUOTED_NOTHING}\n"


QUOTED_NOTHING = '""'
"""An empty cell that stands alone in its row; an empty line would be skipped."""


def _quoted(cell: str, delimiter: str) -> str:
    if any(sign in cell for sign in (delimiter, '"', "\n", "\r")):
        return '"' + cell.replace('"', '""') + '"'
    return cell


def _named(path: Path, header: Sequence[str], rows: Sequence[Row]) -> pd.DataFrame:
    """The rows under their names; nameless columns without a cell, as spreadsheets write them, are dropped."""
    kept = [at for at, name in enumerate(header) if name or any(row[at] for row in rows)]
    names = [header[at] for at in kept]
    if repeated := [name for name, times in Counter(names).items() if times > 1]:
        raise InvalidDataError(f"{path}: the header names {', '.join(map(repr, repeated))} more than once; rename")
    return pd.DataFrame([[row[at] for at in kept] for row in rows], columns=names, dtype=object)


def _wrong_width(path: Path, line: int, row: Sequence[str], header: Sequence[str]) -> str:
    return (
        f"{path}: line {line} has {len(row)} cells ({_shown(row)}), the header has {len(header)} ({_shown(header)}); "
        'put texts with commas or line breaks in "double quotes"'
    )


def _shown(cells: Sequence[str]) -> str:
    short = [cell if len(cell) <= _SHOWN_CHARACTERS else f"{cell[:_SHOWN_CHARACTERS]}…" for cell in cells]
    return ", ".join(map(repr, short[:_SHOWN_CELLS])) + (", …" if len(cells) > _SHOWN_CELLS else "")
