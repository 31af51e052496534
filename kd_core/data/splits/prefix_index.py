"""Finds every word set that may be similar to another one: an index of their rarest words.

With words ordered from rare to frequent, two sets of Jaccard similarity ≥ t share a word among the first
|x| − ⌈t·|x|⌉ + 1 of each (prefix filter: Chaudhuri et al. 2006; Bayardo et al. 2007), and n words, where they share so
many at all, among the first |x| − ⌈t·|x|⌉ + n (Wang et al. 2012, AdaptJoin). Where the last of these stands also bounds
how many words they can share (position filter: Xiao et al. 2008, PPJoin).

A key is the first words that two sets share: one where that word is rare; two or three where so many texts have it that
it says little, as in texts made from templates.

A bucket holds the sets of one size that have one key with its last word at one place, so that both filters decide for a
bucket at once.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from kd_core.data.splits.words import Words

EPSILON = 1e-9
"""Keeps 0.8 · 5 = 4 from being rounded up to 5 shared words."""
FREQUENT = 64
"""A key takes one word more where more sets than this would have it, were words independent."""
LONGEST = 3
"""Words of a key at most."""

Bucket = defaultdict[int, list[int]]
"""Tag → the members that were added with it."""
Key = tuple[int, ...]


class PrefixIndex:
    """Members are numbers; each is added with a tag that stands for many of them, so that a reader can skip these."""

    def __init__(self, sets: Iterable[Words], similarity: float) -> None:
        """:param sets: all that will be added or asked about; how often a word occurs in them decides its place"""
        if similarity <= 0:
            raise ValueError("similarity must be above 0")
        self._frequency: Counter[int] = Counter()
        self._sets = 0
        for words in sets:
            self._frequency.update(words)
            self._sets += 1
        self._similarity = similarity
        self._buckets: defaultdict[Key, defaultdict[tuple[int, int], Bucket]] = defaultdict(
            lambda: defaultdict(lambda: defaultdict(list))
        )

    def add(self, member: int, words: Words, tag: int) -> None:
        """Let `member`, which has these words, be found from now on."""
        for rest, key in self._keys(words):
            self._buckets[key][len(words), rest][tag].append(member)

    def near(self, words: Words) -> Iterator[tuple[int, list[int]]]:
        """(tag, members) of all that may be similar to `words`: every one that is, some more than once."""
        size = len(words)
        for rest, key in self._keys(words):
            for (other_size, other_rest), bucket in self._buckets.get(key, _NOTHING).items():
                if len(key) + min(rest, other_rest) >= self._needed(size + other_size):
                    yield from bucket.items()

    def _keys(self, words: Words) -> Iterator[tuple[int, Key]]:
        """(words behind the key's last one, key) of the keys by which a similar set is found.

        A word that nobody else has finds nobody.
        """
        frequency = self._frequency
        ordered = sorted(words, key=lambda word: (frequency[word], word))
        least = math.ceil(self._similarity * len(words) - EPSILON)
        first = next((place for place, word in enumerate(ordered) if frequency[word] > 1), len(ordered))
        return self._longer((), first, self._sets, ordered, least)

    def _longer(
        self, key: Key, start: int, expected: float, ordered: list[int], least: int
    ) -> Iterator[tuple[int, Key]]:
        """Keys that begin with `key` and go on at `start` or later; `expected` sets have `key`.

        Sets that share no more words than a key has so far end there: of these each has few words.
        """
        length = len(key) + 1
        for place in range(start, min(len(ordered) - least + length, len(ordered))):
            word = ordered[place]
            found, sets = (*key, word), expected * self._frequency[word] / self._sets
            ends = length == LONGEST or sets <= FREQUENT
            if ends or least <= length:
                yield len(ordered) - place - 1, found
            if not ends:
                yield from self._longer(found, place + 1, sets, ordered, least)

    def _needed(self, sizes: int) -> float:
        """Words that two sets must share to be similar, from the sum of their sizes."""
        return self._similarity / (1 + self._similarity) * sizes - EPSILON


_NOTHING: defaultdict[tuple[int, int], Bucket] = defaultdict(lambda: defaultdict(list))
