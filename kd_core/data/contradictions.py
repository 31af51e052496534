"""Texts that stand in a data set more than once, with other labels each time: at most one of them can be right."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pandas as pd

from kd_core.rows import label_cells

_EXCERPT = 80
"""Characters of a text that are shown."""


def contradictions(rows: pd.DataFrame) -> dict[str, Any]:
    """How many `texts` of labelled rows have several labels (in a multi-label task: sets), and in how many `rows`.

    Texts are the same if their characters are; of pairs both texts. `example` is one of them with its labels, or null.
    """
    columns = [name for name in ("text", "text_pair") if name in rows.columns]
    found: defaultdict[tuple[Any, ...], list[Any]] = defaultdict(list)
    for texts, label in zip(rows[columns].itertuples(index=False, name=None), label_cells(rows["label"]), strict=True):
        if label is not None and isinstance(texts[0], str):
            found[texts].append(label)
    several = {texts: labels for texts, labels in found.items() if len(set(labels)) > 1}
    first = next(iter(several.items()), None)
    example = None if first is None else {"text": first[0][0][:_EXCERPT], "labels": sorted(set(map(_shown, first[1])))}
    return {"texts": len(several), "rows": sum(map(len, several.values())), "example": example}


def note_of(found: dict[str, Any]) -> list[str]:
    """A note for a person, if there are any."""
    if not found["texts"]:
        return []
    example = found["example"]
    return [
        f"{found['texts']} texts have rows with different labels ({found['rows']} rows), for instance "
        f"{example['text']!r}: {', '.join(example['labels'])}; correct them at the source"
    ]


def _shown(label: str | tuple[str, ...]) -> str:
    return label if isinstance(label, str) else " and ".join(label) or "none"
