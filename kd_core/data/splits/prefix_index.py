"""Finds every word set that may be similar to another one: an index of their rarest words.

With words ordered from rare to frequent, two sets of Jaccard similarity ≥ t share a word among the first
|x| − ⌈t·|x|⌉ + 1 of each (prefix filter: Chaudhuri et al. 2006; Bayardo et al. 2007). Where their first shared word
stands also bounds how many words they can share at all (position filter: Xiao et al. 2008, PPJoin).

A bucket holds the sets of one size that have one word at one place, so that both filters decide for a bucket at once.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from kd_core.data.splits.words import Words

EPSILON = 1e-9
"""Keeps 0.8 · 5 = 4 from being rounded up to 5 shared words."""

Bucket = defaultdict[int, list[int]]
"""Tag → the members that were added with it."""


class PrefixIndex:
    """Members are numbers; each is added with a tag that stands for many of them, so that a reader can skip these."""

    def __init__(self, sets: Iterable[Words], similarity: float) -> None:
        """:param sets: all that will be added or asked about; how often a word occurs in them decides its place"""
        if similarity <= 0:
            raise ValueError("similarity must be above 0")
        self._frequency = Counter(word for words in sets for word in words)
        self._similarity = similarity
        self._buckets: defaultdict[int, defaultdict[tuple[int, int], Bucket]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )

    def add(self, member: int, words: Words, tag: int) -> None:
        """Let `member`, which has these words, be found from now on."""
        for place, word in self._prefix(words):
            self._buckets[word][len(words), place][tag].append(member)

    def near(self, words: Words) -> Iterator[tuple[int, list[int]]]:
        """(tag, members) of all that may be similar to `words`: every one that is, some more than once."""
        size = len(words)
        for place, word in self._prefix(words):
            for (other_size, other_place), bucket in self._buckets.get(word, _NOTHING).items():
                if min(size - place, other_size - other_place) >= self._needed(size + other_size):
                    yield from bucket.items()

    def _prefix(self, words: Words) -> Iterator[tuple[int, int]]:
        """(place, word) of the words by which a similar set is found; a word that nobody else has finds nobody."""
        frequency = self._frequency
        ordered = sorted(words, key=lambda word: (frequency[word], word))
        length = len(words) - math.ceil(self._similarity * len(words) - EPSILON) + 1
        return ((place, word) for place, word in enumerate(ordered[:length]) if frequency[word] > 1)

    def _needed(self, sizes: int) -> float:
        """Words that two sets must share to be similar, from the sum of their sizes."""
        return self._similarity / (1 + self._similarity) * sizes - EPSILON


_NOTHING: defaultdict[tuple[int, int], Bucket] = defaultdict(lambda: defaultdict(list))
