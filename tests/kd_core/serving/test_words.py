"""Remembered words make up the same token ids as the tokenizer gives for the whole text."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tokenizers import Tokenizer, pre_tokenizers

from kd_core.serving.graphs import words
from kd_core.serving.graphs.words import Words
from tests.helpers.tiny import FILLER, TOPICS, tiny_bpe, tiny_tokenizer, tiny_unigram

PARTS = [
    *FILLER,
    *TOPICS,
    "Tiger's",
    "re-use",
    "a,",
    "(b)",
    "7",
    "x9",
    "naïve",
    "e\u0301t",
    "☃",
    "苹果",
    "[MASK]",
    "<mask>",
    "",
]
GAPS = [" ", " ", " ", " ", "  ", "\t", "\n", " \u0301", "\u00a0", ", ", " - ", ""]
TOKENIZERS = [tiny_tokenizer, tiny_unigram, tiny_bpe]


def cutting(make: Callable[[], Any], max_length: int, side: str) -> Tokenizer:
    tokenizer = make().backend_tokenizer
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length, direction=side)
    return tokenizer


def texts(count: int) -> list[str]:
    chance = random.Random(0)
    return [
        "".join(chance.choice(PARTS) + chance.choice(GAPS) for _ in range(chance.randint(1, 14))) for _ in range(count)
    ]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("max_length", [4, 12, 64])
@pytest.mark.parametrize("make", TOKENIZERS)
def test_ids_are_those_of_the_whole_text(make: Callable[[], Any], max_length: int, side: str) -> None:
    tokenizer = cutting(make, max_length, side)
    found = Words(tokenizer, max_length, side)
    assert found.usable
    asked = ["", " ", *texts(400)]
    expected = [each.ids for each in tokenizer.encode_batch(asked)]
    assert found.ids(asked) == expected
    assert found.ids(asked) == expected, "now they are remembered"


def test_each_word_is_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = cutting(tiny_tokenizer, 24, "right")
    found = Words(tokenizer, 24, "right")
    first = found.ids(["the old river", "the blue river"])
    monkeypatch.setattr(found, "_tokenizer", None)
    assert found.ids(["the old river", "the blue river"]) == first
    assert found.ids(["the blue river old"][:0]) == []


def test_long_pieces_are_not_remembered_and_there_are_never_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_PIECES", 5)
    tokenizer = cutting(tiny_tokenizer, 24, "right")
    found = Words(tokenizer, 24, "right")
    asked = [f"w{n} the x{n}{'y' * 40}" for n in range(20)]
    for text in asked:
        assert found.ids([text]) == [tokenizer.encode(text).ids]
        assert len(found._known) <= 5
        assert all(len(piece) <= words.MOST_CHARACTERS for piece in found._known)


def test_several_threads_get_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words, "MOST_PIECES", 20)
    tokenizer = cutting(tiny_tokenizer, 24, "right")
    found, asked = Words(tokenizer, 24, "right"), texts(300)
    parts = [asked[start : start + 10] for start in range(0, 300, 10)] * 4
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(found.ids, parts))
    assert answers == [[tokenizer.encode(text).ids for text in part] for part in parts]


def test_tokenizers_that_look_beyond_a_word_are_left_alone() -> None:
    tokenizer = cutting(tiny_bpe, 24, "right")
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(use_regex=False)
    assert not Words(tokenizer, 24, "right").usable
    assert not Words(cutting(tiny_tokenizer, 2, "right"), 2, "right").usable, "nothing but special tokens is kept"
