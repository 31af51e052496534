"""Near-duplicate groups of a data set's rows, earlier revisions' texts included."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import pandas as pd

from kd_core.data.splits.components import Components
from kd_core.data.splits.ledger import Ledger
from kd_core.data.splits.near_duplicates import near_duplicate_groups
from kd_core.data.splits.words import Words, row_words, signature


@dataclass(frozen=True)
class Cluster:
    """Rows that must stay on one side of a split."""

    name: str
    """Signature of one of its rows' word sets, the smallest."""
    rows: tuple[int, ...]
    """Positions in the data set; never empty."""
    words: frozenset[Words]
    """Word sets of its rows, and of earlier texts that link to them."""
    earlier: frozenset[str]
    """Splits that any of these word sets was in, in earlier revisions."""


def find_clusters(rows: pd.DataFrame, ledger: Ledger, similarity: float) -> list[Cluster]:
    """The groups of `rows` (id, text, text_pair?, link?): near-duplicates and rows of one `link`, transitively.

    Texts of the ledger that are gone take part, so that a near-duplicate of one is recognised.
    """
    words = row_words(rows)
    present = set(words)
    gone = [known for known in ledger.splits if known not in present]
    everything = [*words, *gone]
    components = Components(len(everything))
    for position, name in enumerate(near_duplicate_groups(everything, similarity)):
        components.join(name, position)
    if "link" in rows.columns:
        first: dict[str, int] = {}
        for position, link in enumerate(rows["link"]):
            components.join(first.setdefault(link, position), position)
    members: defaultdict[int, list[int]] = defaultdict(list)
    for position, name in enumerate(components.names()):
        members[name].append(position)
    ids = rows["id"].tolist()
    return [_cluster(positions, everything, ids, ledger) for positions in members.values() if positions[0] < len(words)]


def _cluster(positions: list[int], everything: list[Words], ids: list[str], ledger: Ledger) -> Cluster:
    rows = tuple(position for position in positions if position < len(ids))
    words = frozenset(everything[position] for position in positions if everything[position])
    names = [signature(everything[row]) if everything[row] else f"empty-{ids[row]}" for row in rows]
    earlier = frozenset(ledger.splits[known] for known in words if known in ledger.splits)
    return Cluster(min(names), rows, words, earlier)
