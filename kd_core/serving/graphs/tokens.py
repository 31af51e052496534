"""Turns texts into the token ids that transformers gives, with the library `tokenizers` alone, and into units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from kd_core.config.data import Kind
from kd_core.long_texts import LongTexts
from kd_core.runtime.arrays import Integers
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.folder.network import PADDED, PLACES, Tokenization
from kd_core.serving.graphs.words import Words
from kd_core.tasks import encode
from kd_core.tasks.units import UNIT_MASK, Units


@dataclass(frozen=True)
class Tokens:
    """N texts as token ids, not yet padded."""

    ids: list[list[int]]
    types: list[list[int]] | None
    """None where the model does not take them."""
    lengths: Integers
    """[N], tokens of each text."""
    offsets: Integers | None = None
    """[N + 1], where each text's units begin; None: a text is one unit."""
    features: Mapping[str, Units] = field(default_factory=dict)
    """Inputs of the graphs for each unit; empty if a text is one unit."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def unit_count(self) -> int:
        """ΣU, the number of units of all texts."""
        return len(self) if self.offsets is None else int(self.offsets[-1])

    @cached_property
    def spans(self) -> Integers:
        """[N], places that each text needs in a batch: the larger of its numbers of tokens and units."""
        return self.lengths if self.offsets is None else np.maximum(self.lengths, np.diff(self.offsets))

    def unit_feeds(self, rows: Integers) -> dict[str, npt.NDArray[Any]]:
        """Inputs of the graphs for the units of a batch [B, U], by name; empty if a text is one unit."""
        found: dict[str, npt.NDArray[Any]] = {}
        if self.offsets is None:
            return found
        for name, units in self.features.items():
            found[name], found[UNIT_MASK] = units.padded(rows)
        return found

    def answers_of(self, rows: Integers, padded: npt.NDArray[np.float32]) -> Units:
        """A graph's answers [B · U, C] to a batch, without those for padding."""
        if self.offsets is None:
            return Units.one_a_row(padded)
        sizes = np.diff(self.offsets)[rows]
        used = np.arange(sizes.max(initial=0)) < sizes[:, None]
        return Units.of_sizes(padded[used.ravel()], sizes)

    def put(self, into: npt.NDArray[np.float32], rows: Integers, padded: npt.NDArray[np.float32]) -> None:
        """Write a graph's answers [B · U, C] to a batch to their places among the answers to all texts, [ΣU, C]."""
        if self.offsets is None:
            into[rows] = padded
        else:
            into[self.unit_places(rows)] = self.answers_of(rows, padded).values

    def unit_places(self, rows: Integers) -> Integers:
        """[ΣU of these texts], the places of their units among the units of all texts."""
        if self.offsets is None:
            return rows
        sizes = np.diff(self.offsets)[rows]
        before = np.cumsum(sizes) - sizes  # units of these texts in front of each of them
        return np.repeat(self.offsets[rows] - before, sizes) + np.arange(sizes.sum())


class TextEncoder:
    """A tokenizer that cuts texts to the model's length; several threads may use it at once."""

    def __init__(self, tokenizer: Tokenizer, how: Tokenization, kind: Kind) -> None:
        self._tokenizer, self.how, self._kind = tokenizer, how, encode.of(kind)
        tokenizer.no_padding()
        tokenizer.enable_truncation(how.max_length, direction=how.truncation_side)  # the longer text of a pair is cut
        self._long = LongTexts(tokenizer, how.max_length, how.truncation_side, how.max_characters)
        self._words = Words(tokenizer, how.max_length, how.truncation_side)

    @classmethod
    def load(cls, folder: Path, how: Tokenization, kind: Kind) -> TextEncoder:
        """Load it from the model's folder. Raises InvalidDataError if the file is no tokenizer."""
        path = folder / how.file
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises no narrower class
            raise InvalidDataError(f"{path}: not a tokenizer: {error}") from None
        return cls(tokenizer, how, kind)

    def encode(self, columns: Sequence[Sequence[str]], before: int = 0) -> Tokens:
        """Token ids of N texts: one column of N texts, or two for pairs.

        :param before: rows of the request before these, for the row numbers in errors
        :raises InvalidDataError: a text is too long to be cut into tokens; its row is named
        """
        cut = self._cut(columns, before)
        if self._kind.FEATURES:
            encodings = self._tokenizer.encode_batch(_rows(cut))  # encode_batch_fast gives no offsets of tokens
            features = self._kind.features(columns, encodings)
            return self._tokens(encodings, next(iter(features.values())).offsets, features)
        if len(cut) == 1 and self._words.usable:
            return self._of_one(self._words.ids(cut[0]))
        return self._tokens(self._tokenizer.encode_batch_fast(_rows(cut)))

    def _tokens(
        self, encodings: Sequence[Any], offsets: Integers | None = None, features: Mapping[str, Units] | None = None
    ) -> Tokens:
        ids = [encoding.ids for encoding in encodings]
        types = [encoding.type_ids for encoding in encodings] if self.how.token_types else None
        return Tokens(ids, types, np.array([len(each) for each in ids], dtype=np.int64), offsets, features or {})

    def _cut(self, columns: Sequence[Sequence[str]], before: int) -> Sequence[Sequence[str]]:
        """Cut long texts where that changes no token; only on the right if parts of a text are asked about."""

        def name_of(row: int) -> str:
            return f"row {before + row + 1} (counted from 1)"

        if self._kind.FEATURES:
            for row, text in ((row, text) for texts in columns for row, text in enumerate(texts)):
                if len(text) > self.how.max_characters:
                    raise InvalidDataError(
                        f"{name_of(row)}: a text of {len(text):,} characters; the model answers each part of a text, "
                        f"and it takes at most {self.how.max_characters:,} characters: shorten it"
                    )
            if self.how.truncation_side == "left":
                return columns
        return self._long.cut(columns, name_of)

    def _of_one(self, ids: list[list[int]]) -> Tokens:
        """Tokens of single texts, which have one token type."""
        types = [[0] * len(each) for each in ids] if self.how.token_types else None
        return Tokens(ids, types, np.array([len(each) for each in ids], dtype=np.int64))

    def sample(self, count: int, tokens: int) -> list[str]:
        """`count` texts of about `tokens` tokens from the whole vocabulary, for timings; always the same texts."""
        ids = np.random.default_rng(0).integers(self._tokenizer.get_vocab_size(), size=(count, tokens))
        return [f"text {text}" for text in self._tokenizer.decode_batch(ids.tolist())]  # never blank


def _rows(columns: Sequence[Sequence[str]]) -> list[Any]:
    """The texts, or pairs of them, of each row."""
    return list(columns[0]) if len(columns) == 1 else list(zip(*columns, strict=True))


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
    """Places of the tokens of a mask [B, L], by the names of the graphs' inputs (kd_core.serving.folder.network)."""
    return {PLACES: np.flatnonzero(used), PADDED: np.maximum(np.cumsum(used) - 1, 0).reshape(used.shape)}
