"""Draws a small sample of a split: the same rows on every machine, with every label among them.

Rows are kept sorted by id, and an id often begins with the label or with the file it came from. The first rows of a
split therefore say little about the others.
"""

from __future__ import annotations

from collections import Counter

import pandas as pd

from kd_core.data.splits.assignment import strata_of
from kd_core.data.splits.words import stable_order
from kd_core.rows import label_sets


def stratified_sample(rows: pd.DataFrame, count: int) -> pd.DataFrame:
    """At most `count` of `rows` (id, label), in their original order.

    A hash of the ids draws them. Each label has its share of the sample (a row with several labels counts for its
    rarest one), and at least one row if `count` allows it. Rows without a label count as a label of their own.
    """
    if len(rows) <= count:
        return rows
    strata = strata_of(label_sets(rows["label"]))
    sizes, taken = Counter(strata), Counter[str | None]()
    places: dict[int, tuple[bool, float]] = {}
    for position in stable_order(0, rows["id"].tolist()):
        stratum = strata[position]
        places[position] = (taken[stratum] > 0, taken[stratum] / sizes[stratum])
        taken[stratum] += 1
    chosen = sorted(places, key=places.__getitem__)[:count]
    return rows.iloc[sorted(chosen)]
