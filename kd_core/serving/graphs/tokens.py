"""Texts to token ids as transformers makes them, by the library `tokenizers` alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from kd_core.long_texts import LongTexts
from kd_core.runtime.arrays import Integers
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.folder.network import PADDED, PLACES, Tokenization
from kd_core.serving.graphs.words import Words


@dataclass(frozen=True)
class Tokens:
    """N texts as token ids, not yet padded."""

    ids: list[list[int]]
    types: list[list[int]] | None
    """None where the model does not take them."""
    lengths: Integers
    """[N], tokens of each text."""

    def __len__(self) -> int:
        return len(self.ids)


class TextEncoder:
    """A tokenizer that cuts texts to the model's length; it may be asked by several threads at once."""

    def __init__(self, tokenizer: Tokenizer, how: Tokenization) -> None:
        self._tokenizer, self.how = tokenizer, how
        tokenizer.no_padding()
        tokenizer.enable_truncation(how.max_length, direction=how.truncation_side)  # of pairs the longer text is cut
        self._long = LongTexts(tokenizer, how.max_length, how.truncation_side, how.max_characters)
        self._words = Words(tokenizer, how.max_length, how.truncation_side)

    @classmethod
    def load(cls, folder: Path, how: Tokenization) -> TextEncoder:
        """From the model's folder. Raises InvalidDataError if the file is no tokenizer."""
        path = folder / how.file
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise InvalidDataError(f"{path}: not a tokenizer: {error}") from None
        return cls(tokenizer, how)

    def encode(self, columns: Sequence[Sequence[str]], before: int = 0) -> Tokens:
        """Token ids of N texts: one column, or two for pairs, of N each.

        :param before: rows of the request in front of these; errors count them
        :raises InvalidDataError: a text is too long to be cut into tokens; its row is named
        """
        columns = self._long.cut(columns, lambda row: f"row {before + row + 1} (counted from 1)")
        if len(columns) == 1 and self._words.usable:
            return self._of_one(self._words.ids(columns[0]))
        texts = list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))
        encodings = self._tokenizer.encode_batch_fast(texts)
        ids = [encoding.ids for encoding in encodings]
        types = [encoding.type_ids for encoding in encodings] if self.how.token_types else None
        return Tokens(ids, types, np.array([len(each) for each in ids], dtype=np.int64))

    def _of_one(self, ids: list[list[int]]) -> Tokens:
        """Tokens of single texts: they have one type."""
        types = [[0] * len(each) for each in ids] if self.how.token_types else None
        return Tokens(ids, types, np.array([len(each) for each in ids], dtype=np.int64))

    def sample(self, count: int, tokens: int) -> list[str]:
        """Texts of about so many tokens from all over the vocabulary, for timings; always the same ones."""
        ids = np.random.default_rng(0).integers(self._tokenizer.get_vocab_size(), size=(count, tokens))
        return [f"text {text}" for text in self._tokenizer.decode_batch(ids.tolist())]  # never blank


def padded(values: Sequence[Sequence[int]], rows: Integers, length: int, fill: int) -> Integers:
    """The token ids (or types) of `rows`, [len(rows), length]."""
    block = np.full((len(rows), length), fill, dtype=np.int64)
    for place, row in enumerate(rows.tolist()):
        block[place, : len(values[row])] = values[row]
    return block


def mask(lengths: Integers, length: int) -> Integers:
    """[B, L], 1 where a text has a token."""
    return np.asarray(np.arange(length) < lengths[:, None], dtype=np.int64)


def places(used: Integers) -> dict[str, Integers]:
    """Where the tokens of a mask [B, L] are, by the names of the graphs' inputs (kd_core.serving.folder.network)."""
    return {PLACES: np.flatnonzero(used), PADDED: np.maximum(np.cumsum(used) - 1, 0).reshape(used.shape)}
