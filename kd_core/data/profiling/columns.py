"""What the cells of each column look like, whatever the column is called."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from kd_core.data.profiling.words import ColumnProfile
from kd_core.tables.cells import NotTextError, as_text, values_of

_LOOKED_AT = 1_000_000
"""Rows at most, evenly over the table."""
_EXAMPLES = 3
_EXCERPT = 60
"""Characters of an example."""
_SEPARATORS = {"|": 4.0, ";": 4.0, ",": 1.5}
"""Signs between labels, and the most words that each label has on average: sentences have commas, too."""
_SHARE_WITH_SEVERAL = 0.05
"""Of the cells: with fewer, a sign between values is chance."""


def profiles(table: pd.DataFrame) -> tuple[ColumnProfile, ...]:
    """One for each column of the table."""
    step = max(1, math.ceil(len(table) / _LOOKED_AT))
    seen = table.iloc[::step]
    return tuple(_profile(str(name), values_of(seen[name])) for name in table.columns)


def one_line(text: str, most: int = _EXCERPT) -> str:
    """The text's first characters, without what would break a line or cannot be shown."""
    shown = " ".join(text[: 4 * most].split())
    plain = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in shown)
    return plain if len(plain) <= most else f"{plain[:most]}…"


def _profile(name: str, cells: Sequence[Any]) -> ColumnProfile:
    filled = [cell for cell in cells if cell is not None and cell != ""]
    lists = [cell for cell in filled if isinstance(cell, list | tuple)]
    texts = _as_texts(filled) if not lists else None
    kind = "empty" if not filled else "lists" if len(lists) == len(filled) else "other" if texts is None else "text"
    if kind == "lists":
        members = _as_texts([each for cell in filled for each in cell])
        kind, texts = ("other", None) if members is None else (kind, members)
    shown = texts or []
    counts = Counter(shown)
    words = sum(map(_words, shown)) / len(shown) if shown else 0.0
    return ColumnProfile(
        name=name,
        kind=kind,
        filled=len(filled),
        distinct=len(counts),
        words=round(words, 1),
        numbers=bool(shown) and all(map(_is_number, counts)),
        separator=_separator(counts) if kind == "text" else None,
        examples=tuple(one_line(text) for text, _ in counts.most_common(_EXAMPLES)),
    )


def _as_texts(cells: Sequence[Any]) -> list[str] | None:
    """The cells as training reads them; None where one of them is no text."""
    try:
        return [as_text(cell) or "" for cell in cells]
    except NotTextError:
        return None


def _words(text: str) -> int:
    """Words as spaces tell them; where there are none, of letters that are words (Chinese, Japanese)."""
    ideographs = sum("\u3040" <= sign <= "\u9fff" for sign in text)
    return len(text.split()) + ideographs // 2


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _separator(counts: Counter[str]) -> str | None:
    """The sign that splits cells into short values that stand in other cells too."""
    return next((sign for sign, most_words in _SEPARATORS.items() if _separates(sign, counts, most_words)), None)


def _separates(sign: str, counts: Counter[str], most_words: float) -> bool:
    rows = sum(counts.values())
    several = sum(times for text, times in counts.items() if sign in text.strip(sign))
    if several < max(2, _SHARE_WITH_SEVERAL * rows):
        return False
    cells = [{part for each in text.split(sign) if (part := each.strip())} for text in counts]
    parts = Counter(part for cell in cells for part in cell)
    again = sum(times > 1 for times in parts.values())
    short = sum(map(_words, parts)) <= most_words * len(parts)
    return short and len(parts) <= len(counts) and 2 * again >= len(parts)
