"""Tables of texts in files: csv, jsonl and parquet, chosen by the extension, every column kept."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from kd_core.config.data import MULTI_LABEL
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.exits.thresholds import Thresholds
from kd_core.serving.folder.record import InferenceRecord
from kd_core.serving.predictor import Predictor

EXTENSIONS = (".csv", ".jsonl", ".parquet")
SEPARATOR = "|"
"""Stands in a csv between the labels that a text is given, as in csv sources; alone where no label is."""


def predict_file(
    predictor: Predictor,
    source: Path,
    target: Path,
    threshold: Thresholds | None = None,
    probabilities: bool = False,
    report: Callable[[int, int], None] | None = None,
    columns: Mapping[str, str] | None = None,
) -> int:
    """Answer every row of `source` and write all its columns with the answers to `target`; returns the rows.

    Texts are found as `named_texts` says, with `columns`.
    A column of the input that bears the name of an answer keeps it; the answer is then called `predicted_<name>`.
    `target` is written whole or not at all.
    """
    check_extension(target)
    rows = read_table(source)
    try:
        texts = named_texts(rows, predictor.record, columns or {})
        answers = predictor.predict(texts, threshold, probabilities, report)
    except InvalidDataError as error:
        raise InvalidDataError(f"{source}: {error}") from None
    if predictor.record.kind == MULTI_LABEL and target.suffix.lower() == ".csv":
        labels = [SEPARATOR.join(given) or SEPARATOR for given in answers["label"]]
        shares = [SEPARATOR.join(map(str, given)) for given in answers["probability"]]
        answers = answers.assign(label=labels, probability=shares)
    renamed = {name: f"predicted_{name}" for name in answers.columns if name in rows.columns}
    write_table(target, pd.concat([rows, answers.rename(columns=renamed)], axis=1))
    return len(rows)


def named_texts(rows: pd.DataFrame, record: InferenceRecord, columns: Mapping[str, str]) -> pd.DataFrame:
    """The text columns of `rows` under the names that the model reads.

    A column is looked for where `columns` (ours → theirs) says; if that is silent, under the name that the training
    data had for it, then under ours. Raises ParamsError for a key of `columns` that the model does not read,
    InvalidDataError for a column that is not there.
    """
    if unknown := sorted(set(columns) - set(record.text_columns)):
        raise ParamsError(f"column {unknown[0]!r}: the model reads {', '.join(record.text_columns)}")
    found = {}
    for ours in record.text_columns:
        known = [columns[ours]] if ours in columns else [record.columns.get(ours, ours), ours]
        theirs = next((name for name in known if name in rows.columns), None)
        if theirs is None:
            there = ", ".join(map(str, rows.columns)) or "none"
            wanted = " or ".join(map(repr, dict.fromkeys(known)))
            raise InvalidDataError(f"no column {wanted} (columns there: {there}); say --column {ours}=NAME")
        found[ours] = rows[theirs]
    return pd.DataFrame(found, index=rows.index)


def check_extension(path: Path) -> None:
    """Raises InvalidDataError unless the extension is one that is understood."""
    if path.suffix.lower() not in EXTENSIONS:
        raise InvalidDataError(f"{path}: unknown kind of file; give one of {', '.join(EXTENSIONS)}")


def read_table(path: Path) -> pd.DataFrame:
    """All rows and columns; values as they stand in the file (a csv's as text).

    Raises InvalidDataError naming the file if it is missing, empty, not UTF-8 or not of its kind.
    """
    check_extension(path)
    if not path.is_file():
        raise InvalidDataError(f"{path}: no such file")
    try:
        rows = _READERS[path.suffix.lower()](path)
    except (UnicodeDecodeError, pd.errors.ParserError, pa.ArrowInvalid, pd.errors.EmptyDataError) as error:
        raise InvalidDataError(f"{path}: cannot be read: {error}") from None
    if rows.empty:
        raise InvalidDataError(f"{path}: holds no rows")
    return rows


def write_table(path: Path, rows: pd.DataFrame) -> None:
    """Write all rows through a temporary file beside `path` and a rename."""
    check_extension(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        _WRITERS[path.suffix.lower()](temporary, rows)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _read_csv(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, dtype=object, keep_default_na=False, encoding="utf-8-sig")


def _read_jsonl(path: Path) -> pd.DataFrame:
    records = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), start=1):
        if line.strip():
            records.append(_record(line, path, number))
    return pd.DataFrame(records, dtype=object)


def _record(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidDataError(f"{path}: line {number} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise InvalidDataError(f"{path}: line {number} holds {type(record).__name__}, not an object with columns")
    return record


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path, dtype_backend="pyarrow")


def _write_csv(path: Path, rows: pd.DataFrame) -> None:
    rows.to_csv(path, index=False)


def _write_jsonl(path: Path, rows: pd.DataFrame) -> None:
    with path.open("w", encoding="utf-8") as file:
        for record in rows.to_dict("records"):
            present = {str(key): value for key, value in record.items() if not _absent(value)}
            file.write(json.dumps(present, ensure_ascii=False, default=str) + "\n")


def _absent(value: object) -> bool:
    """What pandas puts where a record has no such key."""
    return isinstance(value, float) and math.isnan(value)


def _write_parquet(path: Path, rows: pd.DataFrame) -> None:
    rows.to_parquet(path, index=False)


_READERS = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
_WRITERS = {".csv": _write_csv, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
