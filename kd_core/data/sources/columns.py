"""A user's columns as ours: id, text, text_pair?, label; cells as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from kd_core.config.data import Role
from kd_core.config.names import Column
from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.cells import texts_of, values_of

Columns = Mapping[Column, str | None]
"""Our column → theirs; None for an `id` that is not to be read."""

_SEVERAL = "give one label a row, or make the task one of kind multi_label_classification"


@dataclass(frozen=True, kw_only=True)
class RowForm:
    """What the rows of a source must be."""

    role: Role
    columns: Columns
    pair: bool
    """Whether a row has a second text."""
    labelled: bool
    separator: str | None = None
    """Given where a row may have several labels: it stands between those of a text cell."""
    ordered: bool = False
    """Whether labels keep their order and what is repeated."""

    def of_split(self, split: str | None) -> RowForm:
        """The form of one split's rows: unlabelled ones have no label."""
        return replace(self, labelled=self.labelled and split != "unlabelled")


def theirs(columns: Columns, ours: Column) -> str:
    """The name of our column in the source: ours, where nothing is said."""
    return columns.get(ours) or ours


def to_rows(table: pd.DataFrame, form: RowForm, name: str) -> pd.DataFrame:
    """Our columns out of theirs; nulls as None. `name` is the file or data set that errors name.

    A table without rows and columns (an empty jsonl file) gives no rows. Raises InvalidDataError for a column that is
    not there, or a cell that is not text.
    """
    columns, wanted = form.columns, _wanted(form)
    if table.empty and table.columns.empty:
        return pd.DataFrame({ours: pd.Series(dtype=object) for ours in dict.fromkeys(["id", *wanted, "label"])})
    _check_there(table, form, wanted, name)
    nothing = pd.Series([None] * len(table), dtype=object)
    found: dict[str, pd.Series] = {"id": nothing, "label": nothing}
    for ours in wanted:
        column = table[theirs(columns, ours)]
        where = f"{name}: column {theirs(columns, ours)!r}"
        if ours == "label" and form.separator is not None:
            cells: list[Any] = label_sets(column, where, form.separator, form.ordered)
        else:
            cells = texts_of(column, where, _SEVERAL if ours == "label" else "give one text a row")
        found[ours] = pd.Series(cells, dtype=object)
    if "id" not in columns and "id" in table.columns:
        found["id"] = pd.Series(texts_of(table["id"], f"{name}: column 'id'"), dtype=object)
    return pd.DataFrame(found)


def label_sets(column: pd.Series, where: str, separator: str, ordered: bool = False) -> list[tuple[str, ...] | None]:
    """The labels of each row; None where the cell is null or blank. A separator alone says that none applies.

    They are sorted, and each once, unless their order counts.

    A cell is a list of labels, or a text with `separator` between them. Raises InvalidDataError naming the row.
    """
    found: list[tuple[str, ...] | None] = []
    for row, cell in enumerate(values_of(column), start=1):
        if not isinstance(cell, list | tuple):
            text = texts_of(pd.Series([cell], dtype=object), f"{where}, row {row}", "give a list of labels")[0]
            cell = [part.strip() for part in text.split(separator)] if text and text.strip() else None
        found.append(None if cell is None else _label_set(cell, f"{where}, row {row}", ordered))
    return found


def _label_set(labels: list[Any] | tuple[Any, ...], where: str, ordered: bool) -> tuple[str, ...]:
    texts = texts_of(pd.Series(list(labels), dtype=object), f"{where}, list", "give a list of labels, each a text")
    kept = [label for label in texts if label]
    return tuple(kept if ordered else sorted(set(kept)))


def _wanted(form: RowForm) -> list[Column]:
    wanted: list[Column] = ["text"]
    wanted += ["text_pair"] if form.pair else []
    wanted += ["label"] if form.labelled else []
    return [*wanted, "id"] if form.columns.get("id") else wanted


def _check_there(table: pd.DataFrame, form: RowForm, wanted: list[Column], name: str) -> None:
    for ours in wanted:
        if theirs(form.columns, ours) not in table.columns:
            there = ", ".join(map(repr, table.columns)) or "none"
            raise InvalidDataError(
                f"{name}: no column {theirs(form.columns, ours)!r} (there: {there}); "
                f"name the column that holds our {ours!r} in data.{form.role}.source.columns.{ours}"
            )
