"""Groups of near-duplicate texts: word sets whose Jaccard similarity reaches a bound, and what these link."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kd_core.data.splits.components import Components
from kd_core.data.splits.prefix_index import EPSILON, PrefixIndex
from kd_core.data.splits.words import Words
from kd_core.runtime.errors import InvalidDataError

MOST_COMPARED = 50_000_000
"""Pairs of texts that are compared at most: about two minutes."""


def is_near_duplicate(left: Words, right: Words, similarity: float) -> bool:
    """Whether |left ∩ right| ÷ |left ∪ right| ≥ similarity; an empty set is a duplicate of none."""
    if not left or not right:
        return False
    shared = len(left & right)
    return shared >= similarity * (len(left) + len(right) - shared) - EPSILON


def near_duplicate_groups(sets: Sequence[Words], similarity: float) -> list[int]:
    """Component of each word set under "Jaccard ≥ similarity", which must be above 0. Empty sets stay alone.

    Raises InvalidDataError where so many texts are nearly similar that comparing them would take hours.
    """
    return counted_groups(sets, similarity)[0]


def counted_groups(sets: Sequence[Words], similarity: float) -> tuple[list[int], int]:
    """As `near_duplicate_groups`, and the pairs that were compared."""
    components = Components(len(sets))
    unique, positions = _distinct(sets)
    for same in positions:
        for position in same[1:]:
            components.join(same[0], position)
    links = Components(len(unique))
    compared = _join_similar(unique, similarity, links)
    for position, name in enumerate(links.names()):
        components.join(positions[name][0], positions[position][0])
    return components.names(), compared


def near_duplicates_of(queries: Sequence[Words], targets: Sequence[Words], similarity: float) -> list[int | None]:
    """For each query the position of a near-duplicate among `targets`, the same each time; None where there is none.

    Raises InvalidDataError as `near_duplicate_groups`.
    """
    asked, query_positions = _distinct(queries)
    offered, target_positions = _distinct(targets)
    index = PrefixIndex([*asked, *offered], similarity)
    for target, words in enumerate(offered):
        index.add(target, words, tag=0)
    found: list[int | None] = [None] * len(queries)
    compared = _Compared(len(asked) + len(offered), similarity)
    for words, positions in zip(asked, query_positions, strict=True):
        members = (member for _, some in index.near(words) for member in some)
        match = next((t for t in compared.once(members) if is_near_duplicate(words, offered[t], similarity)), None)
        if match is not None:
            for position in positions:
                found[position] = target_positions[match][0]
    return found


class _Compared:
    """Counts the pairs that are compared, and stops where they are too many."""

    def __init__(self, texts: int, similarity: float) -> None:
        self._texts, self._similarity, self.pairs = texts, similarity, 0

    def once(self, members: Iterator[int]) -> Iterator[int]:
        """The members of one query, each once."""
        seen: set[int] = set()
        for member in members:
            if member not in seen:
                seen.add(member)
                self._count()
                yield member

    def _count(self) -> None:
        self.pairs += 1
        if self.pairs > MOST_COMPARED:
            raise InvalidDataError(
                f"near-duplicates: {self._texts} texts are so alike that more than {MOST_COMPARED:,} pairs would have "
                f"to be compared at a similarity of {self._similarity:g}; raise validation.duplicate_similarity of "
                "this data set, or give it fewer rows"
            )


def _join_similar(sets: Sequence[Words], similarity: float, components: Components) -> int:
    """Join what is similar; the pairs compared. Nothing is compared with a set of its own component."""
    index = PrefixIndex(sets, similarity)
    compared = _Compared(len(sets), similarity)
    for position in sorted(range(len(sets)), key=lambda position: len(sets[position])):
        words = sets[position]
        for member in compared.once(_elsewhere(index.near(words), position, components)):
            if is_near_duplicate(words, sets[member], similarity):
                components.join(position, member)
        index.add(position, words, tag=components.find(position))
    return compared.pairs


def _elsewhere(near: Iterator[tuple[int, list[int]]], position: int, components: Components) -> Iterator[int]:
    """The members of components that `position` is not in, nor comes into meanwhile."""
    for component, members in near:
        for member in members:
            if components.find(component) == components.find(position):
                break
            yield member


def _distinct(sets: Sequence[Words]) -> tuple[list[Words], list[list[int]]]:
    """The different non-empty sets, and the positions at which each stands."""
    positions: dict[Words, list[int]] = {}
    for position, words in enumerate(sets):
        if words:
            positions.setdefault(words, []).append(position)
    return list(positions), list(positions.values())
