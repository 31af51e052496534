"""Groups of near-duplicate texts: word sets whose Jaccard similarity reaches a bound, and what these link.

The join is exact: two sets of similarity ≥ t share a word among the first |x| − ⌈t·|x|⌉ + 1 of each, once words are
ordered from rare to frequent (prefix filtering: Chaudhuri et al. 2006; Bayardo et al. 2007).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from kd_core.data.splits.words import Words

_EPSILON = 1e-9
"""Keeps 0.8 · 5 = 4 from being rounded up to 5 shared words."""


class Components:
    """Union–find over positions 0 … n−1; a component is named by its smallest position."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def find(self, position: int) -> int:
        """The component's name."""
        parent = self._parent
        while parent[position] != position:
            parent[position] = parent[parent[position]]
            position = parent[position]
        return position

    def join(self, left: int, right: int) -> None:
        """Make two components one."""
        first, second = sorted((self.find(left), self.find(right)))
        self._parent[second] = first

    def names(self) -> list[int]:
        """Component of each position."""
        return [self.find(position) for position in range(len(self._parent))]


def is_near_duplicate(left: Words, right: Words, similarity: float) -> bool:
    """Whether |left ∩ right| ÷ |left ∪ right| ≥ similarity; an empty set is nobody's duplicate."""
    if not left or not right:
        return False
    shared = len(left & right)
    return shared >= similarity * (len(left) + len(right) - shared) - _EPSILON


def near_duplicate_groups(sets: Sequence[Words], similarity: float) -> list[int]:
    """Component of each word set under "Jaccard ≥ similarity", which must be above 0. Empty sets stay alone."""
    components = Components(len(sets))
    unique, positions = _distinct(sets)
    for same in positions:
        for position in same[1:]:
            components.join(same[0], position)
    for left, right in _candidates(unique, similarity):
        first, second = positions[left][0], positions[right][0]
        if components.find(first) != components.find(second) and is_near_duplicate(
            unique[left], unique[right], similarity
        ):
            components.join(first, second)
    return components.names()


def near_duplicates_of(queries: Sequence[Words], targets: Sequence[Words], similarity: float) -> list[int | None]:
    """For each query the position of its first near-duplicate among `targets`; None where there is none."""
    asked, query_positions = _distinct(queries)
    offered, target_positions = _distinct(targets)
    found: list[int | None] = [None] * len(queries)
    for left, right in _candidates([*asked, *offered], similarity):
        query, target = min(left, right), max(left, right) - len(asked)
        if query >= len(asked) or target < 0 or not is_near_duplicate(asked[query], offered[target], similarity):
            continue
        first = target_positions[target][0]
        for position in query_positions[query]:
            best = found[position]
            found[position] = first if best is None else min(best, first)
    return found


def _distinct(sets: Sequence[Words]) -> tuple[list[Words], list[list[int]]]:
    """The different non-empty sets, and the positions at which each stands."""
    positions: dict[Words, list[int]] = {}
    for position, words in enumerate(sets):
        if words:
            positions.setdefault(words, []).append(position)
    return list(positions), list(positions.values())


def _candidates(sets: Sequence[Words], similarity: float) -> Iterator[tuple[int, int]]:
    """Pairs of positions that may be similar: every pair that is, and a few more."""
    if similarity <= 0:
        raise ValueError("similarity must be above 0")
    frequency = Counter(word for words in sets for word in words)
    by_size = sorted((position for position, words in enumerate(sets) if words), key=lambda p: len(sets[p]))
    index: defaultdict[int, list[int]] = defaultdict(list)
    for position in by_size:
        words = sorted(sets[position], key=lambda word: (frequency[word], word))
        smallest = math.ceil(similarity * len(words) - _EPSILON)
        seen: set[int] = set()
        for word in words[: len(words) - smallest + 1]:
            for other in index[word]:
                if len(sets[other]) >= smallest and other not in seen:
                    seen.add(other)
                    yield position, other
            index[word].append(position)
