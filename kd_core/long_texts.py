"""Cuts long texts before the tokenizer without changing the tokens that are kept.

A tokenizer works on the whole text, even if few of its tokens are kept. With many tokenizers, tokens depend on one word
at a time: then a text may end before a space between two letters (or digits), and all tokens up to there are those of
the whole text. `cuts_between_words` recognises these tokenizers. BERT's normaliser makes a word of each Chinese
character (Japanese kanji included), so its texts may also end between two of these: `cuts_between_ideographs`. Other
texts are limited in length.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import Any

from tokenizers import Tokenizer

from kd_core.runtime.errors import InvalidDataError

MOST_CHARACTERS = 200_000
"""Most characters of a text that cannot be cut: its tokenisation takes about a second and 20 MB."""
CHARACTERS_PER_TOKEN = 16
"""Texts up to this many characters per kept token are left alone; for others, ever longer pieces are tried."""

_LOCAL_NORMALIZERS = {"BertNormalizer", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "Precompiled",
                      "Strip", "Prepend"}  # fmt: skip
"""Normalisers whose result for a letter depends only on the letter and the marks after it."""
_SPACES = " {2,}"
"""The pattern of SentencePiece's `Replace`."""
_SPLITTING = {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}
"""Pre-tokenizers that always end a word at a space; Metaspace and ByteLevel can be configured not to."""
_LOCAL = {*_SPLITTING, "Metaspace", "ByteLevel", "Punctuation", "Digits"}
_MODELS = {"WordPiece", "BPE", "Unigram", "WordLevel"}
_IDEOGRAPHS = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
"""Characters that BERT's normaliser surrounds with spaces and that no normaliser changes."""
_JOINS_NEXT = "\u0d4e"
"""The only letter of the basic plane that forms one character with the space after it."""


class LongTexts:
    """Cuts texts for one tokenizer; several threads may use it at once."""

    def __init__(self, tokenizer: Tokenizer | None, max_length: int, side: str, most: int = MOST_CHARACTERS) -> None:
        """:param tokenizer: may cut to `max_length` tokens itself, or not at all; None: no text can be cut
        :param side: the side where tokens are cut off, right or left
        :param most: most characters of a text that cannot be cut
        """
        self._tokenizer, self._max_length, self._most = tokenizer, max_length, most
        self._side = side
        self._window = CHARACTERS_PER_TOKEN * max_length

    def cut(self, columns: Sequence[Sequence[str]], name_of: Callable[[int], str]) -> list[Sequence[str]]:
        """The columns [1 or 2] of N texts with the long texts cut; the kept tokens of each row stay the same.

        :param name_of: place of a row → its name in errors
        :raises InvalidDataError: a text of more than `most` characters cannot be cut; the row is named
        """
        long = sorted({row for texts in columns for row, text in enumerate(texts) if len(text) > self._window})
        if not long:
            return list(columns)
        found = [list(texts) for texts in columns]
        for row in long:
            for texts, text in zip(found, self._row([texts[row] for texts in columns]), strict=True):
                if len(text) > self._most:
                    raise InvalidDataError(
                        f"{name_of(row)}: a text of {len(text):,} characters, of which the model reads "
                        f"{self._max_length} tokens; it takes at most {self._most:,} characters where they cannot be "
                        "cut in front of the tokenizer: shorten it"
                    )
                texts[row] = text
        return list(found)

    def _row(self, texts: list[str]) -> list[str]:
        """The texts of one row.

        A text of a pair is cut only if the other has fewer tokens than are kept: if both are long, the lengths of both
        decide which one loses one more token.
        """
        long = [place for place, text in enumerate(texts) if len(text) > self._window]
        if (
            len(long) == 1
            and any(self._cuts)
            and not any(self._full(text) for at, text in enumerate(texts) if at not in long)
        ):
            texts[long[0]] = self._cut(texts[long[0]])
        return texts

    def _cut(self, text: str) -> str:
        """The shortest tried piece that has all tokens that are kept."""
        size = self._window
        while size < min(len(text), self._most):
            piece = self._piece(text, size)
            if piece is not None and self._full(piece):
                return piece
            size *= 2
        return text

    def _piece(self, text: str, size: int) -> str | None:
        """About `size` characters, up to the end of a word; None if there is no such place."""
        if self._side == "left":
            places = range(len(text) - size, len(text))
            place = next((at for at in places if self._may_end(text, at)), None)
            return None if place is None else text[place:]
        place = next((at for at in range(size, 0, -1) if self._may_end(text, at)), None)
        return None if place is None else text[:place]

    def _may_end(self, text: str, place: int) -> bool:
        words, ideographs = self._cuts
        return (words and _between_words(text, place)) or (ideographs and _between_ideographs(text, place))

    def _full(self, text: str) -> bool:
        """Whether a text has all the tokens that can be kept; False if that is not known."""
        if self._tokenizer is None:
            return False
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids) >= self._max_length

    @cached_property
    def _cuts(self) -> tuple[bool, bool]:
        """Whether texts may be cut between words, and between ideographs."""
        if self._tokenizer is None:
            return False, False
        tokenizer = self._tokenizer.to_str()
        return cuts_between_words(tokenizer, self._side), cuts_between_ideographs(tokenizer)


def _between_words(text: str, place: int) -> bool:
    """Whether there is a space between two letters or digits that no normaliser joins with it or turns into a space."""
    return 0 < place < len(text) - 1 and text[place] == " " and _plain(text[place - 1]) and _plain(text[place + 1])


def _between_ideographs(text: str, place: int) -> bool:
    return 0 < place < len(text) and all(map(_IDEOGRAPHS.fullmatch, text[place - 1 : place + 1]))


@lru_cache(maxsize=4096)
def _plain(letter: str) -> bool:
    kept = unicodedata.normalize("NFKC", letter) == letter
    return kept and letter <= "\uffff" and letter != _JOINS_NEXT and unicodedata.category(letter)[0] in "LN"


def cuts_between_words(tokenizer: str, side: str) -> bool:
    """Whether the tokens of a text up to a space between two letters are those of the whole text up to there.

    :param tokenizer: the text of tokenizer.json
    :param side: `left`: the same for the tokens from there on
    """
    parts: dict[str, Any] = json.loads(tokenizer)
    normalizers, splits = _flat(parts["normalizer"], "normalizers"), _flat(parts["pre_tokenizer"], "pretokenizers")
    known = (
        all(each["type"] in _LOCAL_NORMALIZERS or _keeps_spaces(each) for each in normalizers)
        and all(each["type"] in _LOCAL for each in splits)
        and any(_splits_at_spaces(each) for each in splits)
        and parts["model"]["type"] in _MODELS
        and not any(" " in each["content"] for each in parts["added_tokens"])
    )
    return known and (side == "right" or not _looks_at_starts(normalizers, parts["added_tokens"]))


def cuts_between_ideographs(tokenizer: str) -> bool:
    """Whether each Chinese character is always a word of its own, as with BERT's tokenizers.

    :param tokenizer: the text of tokenizer.json
    """
    parts: dict[str, Any] = json.loads(tokenizer)
    normalizers, splits = _flat(parts["normalizer"], "normalizers"), _flat(parts["pre_tokenizer"], "pretokenizers")
    return (
        [each["type"] for each in normalizers] == ["BertNormalizer"]
        and bool(normalizers[0]["handle_chinese_chars"])
        and [each["type"] for each in splits] == ["BertPreTokenizer"]
        and parts["model"]["type"] == "WordPiece"
        and not any(_IDEOGRAPHS.search(each["content"]) for each in parts["added_tokens"])
    )


def _looks_at_starts(normalizers: Sequence[dict[str, Any]], added: Sequence[dict[str, Any]]) -> bool:
    """Whether a space at the start of a text gives other tokens than a space inside a text."""
    begins = any(each["type"] == "Prepend" or each.get("strip_left") for each in normalizers)
    return begins or any(each["rstrip"] and each["content"][-1:].isalnum() for each in added)


def _flat(part: dict[str, Any] | None, name: str) -> list[dict[str, Any]]:
    if part is None:
        return []
    return [each for inner in part[name] for each in _flat(inner, name)] if part["type"] == "Sequence" else [part]


def _keeps_spaces(normalizer: dict[str, Any]) -> bool:
    """Whether it is a `Replace` that neither removes nor adds a space between two letters."""
    if normalizer["type"] != "Replace":
        return False
    literal = normalizer["pattern"].get("String", " ")
    spaces = normalizer["pattern"].get("Regex") == _SPACES
    return spaces or not (any(map(str.isspace, literal + normalizer["content"])))


def _splits_at_spaces(split: dict[str, Any]) -> bool:
    kind = split["type"]
    return kind in _SPLITTING or bool(split.get("split")) or (kind == "ByteLevel" and bool(split.get("use_regex")))
