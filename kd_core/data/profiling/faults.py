"""Which rows validation will set aside, told before there is a run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

import pandas as pd

from kd_core.config.data import Role, ValidationParams
from kd_core.rows import label_sets, nulls_as_none

_MOST_TOLERATED = 0.5
"""Share of faulty rows beyond which no recipe is proposed."""


def faults(rows: pd.DataFrame, labels: Collection[str], params: ValidationParams) -> list[str | None]:
    """What is wrong with each row of the reference data (text, text_pair?, label, split), by its first fault.

    Labels are looked at where the row has one, or stands in a split that must have them.
    """
    found: list[str | None] = [None] * len(rows)
    for name in [name for name in ("text", "text_pair") if name in rows.columns]:
        for place, text in enumerate(nulls_as_none(rows[name])):
            found[place] = found[place] or _of_text(text, name, params.max_characters)
    evaluated = [split in ("valid", "calibration", "test") for split in rows["split"]]
    for place, row in enumerate(label_sets(rows["label"])):
        if row is None and evaluated[place]:
            found[place] = found[place] or "label missing in a split that is tested on"
        elif row is not None and not set(row) <= set(labels):
            found[place] = found[place] or "label blank"
    return found


def is_of_text(fault: str | None) -> bool:
    """Whether the fault holds for the row without its label too."""
    return fault is not None and fault.startswith("text")


def tolerances(faulty: Mapping[Role, int], rows: Mapping[Role, int], params: ValidationParams) -> dict[str, float]:
    """Share of faulty rows to be tolerated, in whole percents, for each role that has more than the default.

    One percent more than there are: rows that are left out of the splits do not count there.
    """
    shares = {role: count / rows[role] for role, count in faulty.items() if rows[role]}
    return {role: (math.ceil(100 * share) + 1) / 100 for role, share in shares.items() if share > params.tolerance}


def too_many(found: Sequence[str | None]) -> bool:
    """Whether there are so many faulty rows that something else is wrong."""
    return sum(fault is not None for fault in found) > _MOST_TOLERATED * len(found)


def told(found: Sequence[str | None]) -> str:
    """The faults with their numbers, the most frequent first."""
    counts = Counter(fault for fault in found if fault is not None)
    return ", ".join(f"{times:,} × {fault}" for fault, times in counts.most_common())


def _of_text(text: str | None, name: str, longest: int) -> str | None:
    if text is None:
        return f"{name} missing"
    if not text.strip():
        return f"{name} empty"
    return f"{name} longer than {longest:,} characters" if len(text) > longest else None
