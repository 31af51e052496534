"""Answers a file of texts: keeps every column and adds the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.exits.thresholds import Thresholds
from kd_core.serving.folder.record import ModelRecord
from kd_core.serving.predictor import Predictor, check_texts
from kd_core.tables.cells import texts_of
from kd_core.tables.formats import known_format
from kd_core.tables.reading import read_table
from kd_core.tables.writing import writable, write_table

SEPARATOR = "|"
"""Separates the labels (and numbers) of a text in a csv, as in csv sources; alone, it means that there is no label."""


def predict_file(
    predictor: Predictor,
    source: Path,
    target: Path,
    threshold: Thresholds | None = None,
    probabilities: bool = False,
    report: Callable[[int, int], None] | None = None,
    columns: Mapping[str, str] | None = None,
    skip_empty: bool = False,
) -> int:
    """Answer every row of `source` and write all its columns with the answers to `target`; returns the rows.

    `named_texts` finds the texts, with `columns`. With `skip_empty`, rows without text get nulls as answers; otherwise
    they are refused. An input column that has the name of an answer keeps it; the answer is then called
    `predicted_<name>`. `target` is written whole or not at all. Input that it cannot hold is refused before anything is
    answered.
    """
    rows = read_table(source)
    if rows.empty:
        raise InvalidDataError(f"{source}: holds no rows")
    kept = writable(target, rows)
    try:
        texts = named_texts(rows, predictor.record, columns or {})
        asked = texts[_has_text(texts)] if skip_empty else _all_there(texts)
        answers = predictor.predict(asked, threshold, probabilities, report)
    except InvalidDataError as error:
        raise InvalidDataError(f"{source}: {error}") from None
    if known_format(target).kind == "csv":
        answers = _as_text(answers)
    renamed = {name: f"predicted_{name}" for name in answers.columns if name in rows.columns}
    answers = _for_all(answers, rows.index).rename(columns=renamed)
    write_table(target, pd.concat([kept, answers], axis=1))
    return len(rows)


def _as_text(answers: pd.DataFrame) -> pd.DataFrame:
    """Lists of labels or numbers as a csv holds them."""
    listed = {str(name) for name in answers if any(isinstance(cell, tuple) for cell in answers[name])}
    texts = {name: [SEPARATOR.join(map(str, cell)) for cell in answers[name]] for name in listed}
    if "label" in listed:
        texts["label"] = [text or SEPARATOR for text in texts["label"]]
    return answers.assign(**texts)


def _has_text(texts: pd.DataFrame) -> pd.Series:
    """Whether each row has all its texts."""
    return texts.map(lambda text: isinstance(text, str) and bool(text.strip())).all(axis=1)


def _all_there(texts: pd.DataFrame) -> pd.DataFrame:
    """The texts. Raises InvalidDataError that names the rows without text and says how to have the others answered."""
    try:
        check_texts(texts, list(texts.columns))
    except InvalidDataError as error:
        raise InvalidDataError(f"{error}, or leave their answers empty with --skip-empty") from None
    return texts


def _for_all(answers: pd.DataFrame, rows: pd.Index) -> pd.DataFrame:
    """The answers with nulls for rows that were not asked about; whole numbers stay whole."""
    if len(answers) == len(rows):
        return answers
    wide = answers.astype({"exit_layer": "Int64"}).reindex(rows)
    objects = {str(name): wide[name].where(wide[name].notna(), None) for name in wide if wide[name].dtype == object}
    return wide.assign(**objects)


def named_texts(rows: pd.DataFrame, record: ModelRecord, columns: Mapping[str, str]) -> pd.DataFrame:
    """The text columns of `rows` under the names that the model reads.

    `columns` (ours → theirs) gives the name of a column. Without an entry, the name in the training data is tried, then
    ours. Raises ParamsError for a key of `columns` that the model does not read, InvalidDataError for a missing column
    or a cell that is not text. Numbers and dates count as text, as in training.
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
        found[ours] = pd.Series(texts_of(rows[theirs], f"column {theirs!r}"), dtype=object, index=rows.index)
    return pd.DataFrame(found, index=rows.index)
