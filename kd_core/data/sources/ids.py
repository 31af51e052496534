"""Ids of rows from several files: given ones made unique, missing ones made from the content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from kd_core.runtime import fingerprint

Part = tuple[str, pd.DataFrame]
"""Name of a file or split, its rows."""


def joined(parts: Sequence[Part], column: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows of all parts with an id each, and notes.

    Where an id of `column` stands in two parts, ids are counted anew in each, so that every part's name is put before
    its own: train.csv/0 and test.csv/0.
    """
    notes = []
    if shared := _shared(parts):
        found, first, second = shared
        parts = [(name, rows.assign(id=_with_name(name, rows["id"]))) for name, rows in parts]
        notes.append(
            f"ids in column {column!r} are counted anew in each file (for instance {found!r} in {first} and in "
            f"{second}): the file's name was put before them"
        )
    return _with_ids(pd.concat([rows for _, rows in parts], ignore_index=True)), notes


def _shared(parts: Sequence[Part]) -> tuple[str, str, str] | None:
    """An id that stands in two parts, and their names."""
    seen: dict[str, str] = {}
    for name, rows in parts:
        own = dict.fromkeys(key for key in rows["id"] if key)
        for key in own:
            if key in seen:
                return key, seen[key], name
        seen |= dict.fromkeys(own, name)
    return None


def _with_name(name: str, ids: pd.Series) -> pd.Series:
    return pd.Series([f"{name}/{key}" if key else None for key in ids], dtype=object, index=ids.index)


def _with_ids(rows: pd.DataFrame) -> pd.DataFrame:
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
