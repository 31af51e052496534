"""Normalised words: what two texts must share to count as near-duplicates."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

_WORD = re.compile(r"\w+")

Words = frozenset[int]
"""A text's set of words, each as a stable 63-bit hash, so that a ledger of them holds no text."""


def normalised_words(text: str) -> list[str]:
    """Words after Unicode compatibility folding and case folding; a text without any (emoji) is one word itself."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return _WORD.findall(folded) or folded.split()


def word_set(text: str) -> Words:
    """The set of a text's normalised words."""
    return frozenset(map(_word_id, normalised_words(text)))


def row_words(frame: pd.DataFrame) -> list[Words]:
    """One word set a row: of `text`, or of both texts of a pair together; empty where the text is missing."""
    from kd_core.rows import nulls_as_none  # who only hashes words does without pandas

    texts = nulls_as_none(frame["text"])
    if "text_pair" not in frame.columns:
        return [word_set(text or "") for text in texts]
    pairs = nulls_as_none(frame["text_pair"])
    return [word_set(f"{text or ''} {pair or ''}") for text, pair in zip(texts, pairs, strict=True)]


def signature(words: Iterable[int]) -> str:
    """Stable name of a word set: 16 hexadecimal digits."""
    joined = ",".join(map(str, sorted(words)))
    return hashlib.blake2b(joined.encode(), digest_size=8).hexdigest()


def stable_order(seed: int, keys: Sequence[str]) -> list[int]:
    """Positions of `keys` in an order that depends on seed and key alone: adding keys does not reorder the others."""
    ranks = [hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest() for key in keys]
    return sorted(range(len(keys)), key=lambda position: (ranks[position], keys[position]))


@lru_cache(maxsize=1 << 18)
def _word_id(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1
