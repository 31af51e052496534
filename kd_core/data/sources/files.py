"""Rows from csv, jsonl and Parquet files, with the user's column names mapped to ours."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.config.data import Role
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError

SUFFIXES = (".csv", ".jsonl", ".parquet")

Records = dict[str, list[Any]]
"""Column → cells."""

Column = Literal["id", "text", "text_pair", "label"]
"""Our columns, as the `columns` of a source names them."""


def read_files(
    paths: Mapping[str | None, Path],
    columns: Mapping[Column, str],
    role: Role,
    pair: bool,
    labelled: bool,
    separator: str | None = None,
) -> pd.DataFrame:
    """The rows of one file (key None) or of one file a split: id, text, text_pair?, label, and split unless None.

    A path may be a folder: all files in it, by name. `separator`: see `to_rows`. Raises InvalidDataError naming the
    file and what to do.
    """
    frames = []
    for split, path in paths.items():
        for file in _files(path):
            with_label = labelled and split != "unlabelled"
            found = to_rows(_records(file), columns, str(file), role, pair, with_label, separator)
            frames.append(found.assign(split=split))
    rows = pd.concat(frames, ignore_index=True)
    if rows.empty:
        raise InvalidDataError(f"data.{role}.source: {', '.join(map(str, paths.values()))}: no rows")
    return with_ids(rows)


def to_rows(
    records: Records,
    columns: Mapping[Column, str],
    name: str,
    role: Role,
    pair: bool,
    labelled: bool,
    separator: str | None = None,
) -> pd.DataFrame:
    """Our columns out of theirs; cells as text, nulls as None. `name` is the file or data set that errors name.

    `separator` is given where a row may have several labels: it stands between those of a text cell.
    """
    wanted: list[Column] = ["text"]
    if pair:
        wanted.append("text_pair")
    if labelled:
        wanted.append("label")
    required: list[Column] = [*wanted, "id"] if "id" in columns else wanted
    for ours in required:
        theirs = _theirs(columns, ours)
        if theirs not in records:
            raise InvalidDataError(
                f"{name}: no column {theirs!r} (there: {', '.join(map(repr, records)) or 'none'}); "
                f"name the column that holds our {ours!r} in data.{role}.source.columns.{ours}"
            )
    empty = [None] * len(records[_theirs(columns, "text")])
    cells: dict[str, list[Any]] = {"id": records.get(_theirs(columns, "id"), empty), "label": empty}
    cells |= {ours: records[_theirs(columns, ours)] for ours in wanted}
    found = {ours: pd.Series(list(map(_text, theirs)), dtype=object) for ours, theirs in cells.items()}
    if separator is not None:
        found["label"] = pd.Series([_label_set(cell, separator) for cell in cells["label"]], dtype=object)
    return pd.DataFrame(found)


def _theirs(columns: Mapping[Column, str], ours: Column) -> str:
    named = columns.get(ours)
    return ours if named is None else named


def with_ids(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows without an id get one made from their content; twins are numbered."""
    names = [name for name in ("text", "text_pair", "label") if name in rows.columns]
    seen: Counter[str] = Counter()
    ids = []
    for given, *content in zip(rows["id"], *(rows[name] for name in names), strict=True):
        if isinstance(given, str) and given:
            ids.append(given)
            continue
        key = fingerprint.of_value([cell if isinstance(cell, str | tuple) else None for cell in content])[:16]
        seen[key] += 1
        ids.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return rows.assign(id=pd.Series(ids, dtype=object, index=rows.index))


def _text(cell: Any) -> str | None:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return None
    return cell if isinstance(cell, str) else str(cell)


def _label_set(cell: Any, separator: str) -> tuple[str, ...] | None:
    """The labels of a cell, sorted; None where it is null or blank. A separator alone says that no label applies."""
    if not isinstance(cell, list | tuple):
        text = _text(cell)
        if text is None or not text.strip():
            return None
        cell = [part.strip() for part in text.split(separator)]
    return tuple(sorted({name for label in cell if (name := _text(label))}))


def _files(path: Path) -> Sequence[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InvalidDataError(f"{path}: no such file or folder; correct the `path` of the data source")
    found = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES and file.is_file())
    if not found:
        raise InvalidDataError(f"{path}: no csv, jsonl or parquet file in this folder")
    return found


def _records(path: Path) -> Records:
    if path.suffix == ".csv":
        return _csv(path)
    if path.suffix == ".jsonl":
        return _jsonl(path)
    if path.suffix == ".parquet":
        try:
            return dict(pq.read_table(path).to_pydict())
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidDataError(f"{path}: not a readable Parquet file: {error}") from None
    raise InvalidDataError(f"{path}: unknown kind of file; use {', '.join(SUFFIXES)}")


def _csv(path: Path) -> Records:
    """RFC 4180 with a header; an empty cell is a null."""
    csv.field_size_limit(1 << 30)
    reader = csv.reader(io.StringIO(_decode(path), newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            raise InvalidDataError(f"{path}: empty file; it needs a header line and rows")
        if repeated := [name for name, times in Counter(header).items() if name and times > 1]:
            raise InvalidDataError(f"{path}: the header names {', '.join(map(repr, repeated))} more than once; rename")
        rows: list[list[str | None]] = []
        for row in reader:
            if len(row) != len(header) and row:
                raise InvalidDataError(
                    f"{path}: line {reader.line_num} has {len(row)} cells, the header has {len(header)}; "
                    'put texts with commas or line breaks in "double quotes"'
                )
            rows += [[cell or None for cell in row]] if row else []
    except csv.Error as error:
        raise InvalidDataError(f"{path}: line {reader.line_num}: not valid csv: {error}") from None
    return {name: [row[column] for row in rows] for column, name in enumerate(header)}


def _jsonl(path: Path) -> Records:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(_decode(path).split("\n"), start=1):
        if line.strip():
            rows.append(_json_object(line, f"{path}: line {number}"))
    names = dict.fromkeys(name for row in rows for name in row)
    if not rows:
        raise InvalidDataError(f"{path}: empty file; it needs one JSON object a line")
    return {name: [row.get(name) for row in rows] for name in names}


def _json_object(line: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise InvalidDataError(f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidDataError(f'{where}: a JSON object is needed, such as {{"text": …}}')
    if "\\u" in line:
        _check_characters(value, where)
    return value


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


def _decode(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InvalidDataError(
            f"{path}: not UTF-8: byte {error.start} (line {line}) is 0x{data[error.start]:02x}; "
            f"{_likely_encoding(data)}save the file as UTF-8"
        ) from None


def _likely_encoding(data: bytes) -> str:
    from charset_normalizer import from_bytes

    best = from_bytes(data[: 1 << 16]).best()
    return f"it looks like {best.encoding}; " if best else ""
