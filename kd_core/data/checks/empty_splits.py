"""Says why a split has no rows: its size, or a group of near-duplicates that no split of its size can take."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from kd_core.config.data import DataParams, Role, SplitParams
from kd_core.data.splits.assignment import FILL_ORDER

_EXCERPT = 120
"""Characters of the example text."""


def explain_empty(frame: pd.DataFrame, params: DataParams, role: Role, notes: Sequence[str]) -> str:
    """The message for a person.

    :param frame: the rows of all splits: split, group, text
    :param notes: what was noted when the splits were made
    """
    counts = frame["split"].value_counts(sort=False)
    there = ", ".join(f"{name} {count}" for name, count in counts.items())
    sizes = frame["group"].value_counts()
    empty = [split for split in FILL_ORDER if split not in counts.index]
    largest = int(sizes.max())
    if largest > 1 and any(_wanted(params.split, split, len(frame)) in range(1, largest) for split in empty):
        advice = _too_large(frame[frame["group"] == sizes.idxmax()], len(frame), params, role)
    else:
        advice = f"raise its size in data.{role}.split"
    noted = "".join(f"\nnoted: {note}" for note in notes)
    return f"data.{role}: a split has no rows ({there}); {advice}{noted}"


def _wanted(params: SplitParams, split: str, rows: int) -> int:
    size = float(getattr(params, split))
    return int(size if size >= 1 else size * rows)


def _too_large(group: pd.DataFrame, rows: int, params: DataParams, role: Role) -> str:
    example = str(group["text"].iloc[0])
    shown = example if len(example) <= _EXCERPT else f"{example[:_EXCERPT]}…"
    bound = params.validation.duplicate_similarity
    return (
        f"the largest group of near-duplicates has {len(group)} of {rows} rows ({len(group) / rows:.0%}), and a group "
        f"stays in one split; for example: {shown!r}\n"
        f"raise data.{role}.validation.duplicate_similarity (now {bound:g}; at 1 only texts with the same words are a "
        "group), or bring texts that differ more; texts of one template on both sides make a model look better than it "
        "is"
    )
