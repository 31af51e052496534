"""Token ids of texts, joined from the remembered token ids of their words.

A small model spends most of its time on tokenisation, and words recur. If tokens depend on one word at a time
(kd_core.long_texts), a text may be split before a space between two ASCII letters or digits, and its tokens are those
of the pieces in order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tokenizers import Tokenizer

from kd_core.long_texts import cuts_between_words

MOST_PIECES = 2**17
"""Most pieces that are remembered, in about 30 MB; then the table starts empty again."""
MOST_CHARACTERS = 32
"""Most characters of a remembered piece."""

_BEFORE_WORD = re.compile("(?<=[0-9A-Za-z])(?= [0-9A-Za-z])")
_PROBE = "a"


class Words:
    """A table of pieces and their tokens, for single texts; several threads may use it at once."""

    def __init__(self, tokenizer: Tokenizer, max_length: int, side: str) -> None:
        """:param tokenizer: cuts to `max_length` tokens at this `side`"""
        self._tokenizer, self._left = tokenizer, side == "left"
        probe = tokenizer.encode(_PROBE)
        inside = [place for place, special in enumerate(probe.special_tokens_mask) if not special]
        self._before, self._after = (probe.ids[: inside[0]], probe.ids[inside[-1] + 1 :]) if inside else ([], [])
        self._kept = max_length - len(self._before) - len(self._after)
        self.usable = bool(inside) and cuts_between_words(tokenizer.to_str(), "left")
        """Whether the tokens of the pieces are the tokens of the text with this tokenizer."""
        self._known: dict[str, list[int]] = {}

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of each text, special ones included, as the tokenizer itself gives them."""
        split = [_BEFORE_WORD.split(text) for text in texts]
        known = self._learnt({piece for pieces in split for piece in pieces})
        return [self._joined(pieces, known) for pieces in split]

    def _joined(self, pieces: list[str], known: dict[str, list[int]]) -> list[int]:
        found: list[int] = []
        for piece in pieces:
            found += known[piece]
        if len(found) > self._kept:
            found = found[-self._kept :] if self._left else found[: self._kept]
        return [*self._before, *found, *self._after]

    def _learnt(self, pieces: set[str]) -> dict[str, list[int]]:
        """A table with the token ids of these pieces, also of those too long to be remembered."""
        known = self._known
        new = [piece for piece in pieces if piece not in known]
        if not new:
            return known
        encoded = self._tokenizer.encode_batch_fast(new, add_special_tokens=False)
        fresh = {piece: each.ids for piece, each in zip(new, encoded, strict=True)}
        found = {piece: known[piece] for piece in pieces if piece in known} | fresh
        if len(known) + len(fresh) > MOST_PIECES:
            self._known = {}  # a thread that still reads the old table goes on with it
        self._known.update((piece, ids) for piece, ids in fresh.items() if len(piece) <= MOST_CHARACTERS)
        return found
