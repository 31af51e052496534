"""jsonl files: one JSON object a line, a column for each key."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.cells import is_absent
from kd_core.tables.formats import Format
from kd_core.tables.text_files import read_text, write_text


def read_jsonl(path: Path, form: Format) -> pd.DataFrame:
    """All rows, values as JSON has them; None is a null, NaN stands where a row lacks a key that others have.

    A file without a row has no columns. Raises InvalidDataError naming the line that is wrong.
    """
    lines = enumerate(read_text(path, form.gzipped).split("\n"), start=1)
    rows = [_row(line, f"{path}: line {number}") for number, line in lines if line.strip()]
    return pd.DataFrame(rows, dtype=object)


def write_jsonl(path: Path, rows: pd.DataFrame, form: Format) -> None:
    """Write rows whose values JSON knows. What is absent (NaN in a column of objects) is left out, None is a null."""
    names = list(map(str, rows.columns))
    lines = []
    for values in zip(*(rows[name].tolist() for name in rows.columns), strict=True):
        present = {name: value for name, value in zip(names, values, strict=True) if not is_absent(value)}
        lines.append(json.dumps(present, ensure_ascii=False) + "\n")
    write_text(path, "".join(lines), form.gzipped)


def _row(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line, object_pairs_hook=lambda pairs: _object(pairs, where), parse_constant=_constant)
    except ValueError as error:
        raise InvalidDataError(f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidDataError(f'{where}: a JSON object is needed, such as {{"text": …}}')
    if "\\u" in line:
        _check_characters(value, where)
    return value


def _object(pairs: Iterable[tuple[str, Any]], where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidDataError(f"{where}: names {name!r} more than once; rename")
        found[name] = value
    return found


def _constant(word: str) -> float | None:
    """What other writers put though JSON does not know it: NaN is a null."""
    return None if word == "NaN" else float(word)


def _check_characters(value: dict[str, Any], where: str) -> None:
    """JSON can escape half of a surrogate pair, which is no character and cannot be stored."""
    for name, cell in value.items():
        try:
            json.dumps([name, cell], ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise InvalidDataError(
                f"{where}: {name!r} holds \\u{ord(error.object[error.start]):04x}, half of a surrogate pair and no "
                "character; correct or remove it"
            ) from None
