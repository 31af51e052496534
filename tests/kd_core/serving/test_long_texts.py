"""Long texts: cut without a change to the tokens that are kept, or refused by row; one never stops a server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from kd_core.config.data import CLASSIFICATION
from kd_core.inference.batches import encode
from kd_core.long_texts import (
    CHARACTERS_PER_TOKEN,
    MOST_CHARACTERS,
    LongTexts,
    cuts_between_ideographs,
    cuts_between_words,
)
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.folder.network import Tokenization
from kd_core.serving.graphs.tokens import TextEncoder
from kd_core.serving.predictor import Predictor
from tests.helpers.tiny import tiny_bpe, tiny_rows, tiny_task, tiny_tokenizer, tiny_unigram

LENGTH = 8
WINDOW = CHARACTERS_PER_TOKEN * LENGTH


def sentencepiece() -> Any:
    """Unigram with the normalisers that T5 and XLM-R have, and NFKC in place of their table of characters."""
    tokenizer = tiny_unigram()
    tokenizer.backend_tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    return tokenizer


def cased() -> Any:
    """WordPiece that keeps accents, with the strictest limit on a word."""
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    return tokenizer


def chinese() -> Any:
    """WordPiece that has Chinese words, which BERT's normaliser never lets it find."""
    tokenizer = tiny_tokenizer()
    vocabulary = tokenizer.get_vocab()
    words = [
        *sorted(vocabulary, key=vocabulary.__getitem__),
        "天",
        "地",
        "天地",
        "##地",
        "玄",
        "黄",
        "##黄",
        "日",
        "本",
        "語",
        "本語",
        "か",
        "##か",
    ]
    tokenizer.backend_tokenizer.model = models.WordPiece(
        {word: number for number, word in enumerate(words)}, unk_token="[UNK]"
    )
    return tokenizer


KINDS = [tiny_tokenizer, tiny_bpe, tiny_unigram, sentencepiece, cased, chinese]
PIECES = [
    "the", "old", "river", "tiger", "a", "b", "Å", "naïve", "e\u0301\u0327", "\u0301", "日本語", "한국어",
    "天地" * 30, "玄\u0301黄", "か", "豈", "。",
    "русский", "שלום", "\ufe70", "ﬁ", "\u00b4", "\u037a", "ൎ", "\u3000", "\u00a0", "  ", "\n", "\t", ".", "!\n",
    "'s", "[SEP]", "[MASK]", "<mask>", "</s>", "▁", "😀", "👩\u200d👩\u200d👧", "\u200b", "\x00", "x" * 150,
    "12", "３", "ß", "Σ", "İ", "cloud" * 30,
]  # fmt: skip
TEXTS = st.lists(
    st.tuples(st.sampled_from(PIECES), st.sampled_from([" ", " ", " ", "", "  "])), min_size=1, max_size=160
).map(lambda parts: "".join(piece + gap for piece, gap in parts))


def encoder(kind: Any, side: str = "right", most: int = MOST_CHARACTERS) -> TextEncoder:
    how = Tokenization(
        file="", sha256="", max_length=LENGTH, truncation_side=side, pad_id=0, token_types=False, max_characters=most
    )  # type: ignore[arg-type]
    return TextEncoder(Tokenizer.from_str(kind().backend_tokenizer.to_str()), how, CLASSIFICATION)


ENCODERS = {(kind, side): (encoder(kind, side), encoder(kind, side)) for kind in KINDS for side in ("right", "left")}
for _, whole in ENCODERS.values():
    whole._long._window = 1 << 60
    whole._words.usable = False  # the tokenizer itself is asked


@settings(max_examples=150, deadline=None)
@given(text=TEXTS, other=TEXTS)
def test_cutting_changes_no_token_that_is_kept(text: str, other: str) -> None:
    for cutting, whole in ENCODERS.values():
        for columns in ([[text]], [[text], [other]], [["the old river"], [text * 3]]):
            assert cutting.encode(columns).ids == whole.encode(columns).ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_a_long_text_is_cut(kind: Any, side: str) -> None:
    long = LongTexts(kind().backend_tokenizer, LENGTH, side)
    ((cut,),) = long.cut([["the old river " * 2_000_000]], str)
    assert len(cut) <= 2 * WINDOW
    pair = long.cut([["a tiger"], ["the old river " * 50_000]], str)
    assert [len(text) <= 2 * WINDOW for (text,) in pair] == [True, True]


@pytest.mark.parametrize("text", ["x" * 5000, "日本語" * 2000, " " * 5000, "\u0301" * 5000])
def test_what_cannot_be_cut_is_refused_by_row(text: str) -> None:
    with pytest.raises(InvalidDataError, match=r"row 12 .*: a text of [\d,]+ characters.*at most 4,000.*shorten it"):
        encoder(tiny_unigram, most=4000).encode([["short", text]], before=10)
    encoder(tiny_unigram, most=6000).encode([["short", text]])


def test_which_text_of_a_pair_is_longer_stays_so() -> None:
    """The longer one keeps a token more where an odd number is kept; a short text may have more tokens than a piece."""
    letters, words = "a b " * 32, "river " * 100
    for cutting, whole in ENCODERS.values():
        for columns in ([[letters], [words]], [[words], [letters]]):
            assert cutting.encode(columns).ids == whole.encode(columns).ids


def test_two_long_texts_of_a_pair_are_left_alone() -> None:
    columns = [["the old river " * 40], ["a tiger " * 400]]
    assert LongTexts(tiny_tokenizer().backend_tokenizer, LENGTH, "right").cut(columns, str) == columns


def test_training_cuts_the_same_and_names_the_row() -> None:
    rows = tiny_rows(3)
    short = encode(rows, tiny_tokenizer(), tiny_task())
    rows["text"] = rows["text"] + " river" * 100_000
    found = encode(rows, tiny_tokenizer(), tiny_task())
    assert found.input_ids[0][: len(short.input_ids[0]) - 1] == short.input_ids[0][:-1]
    assert set(found.lengths) == {24}
    rows["text"] = "x" * (MOST_CHARACTERS + 1)
    for tokenizer in (tiny_tokenizer(), PlainPython()):
        with pytest.raises(InvalidDataError, match=f"row '{rows['id'].iloc[0]}': a text of 200,001 characters"):
            encode(rows, tokenizer, tiny_task())


class PlainPython:
    """What can be asked of a tokenizer without the library `tokenizers` before it works on a text."""

    model_max_length = 128
    truncation_side = "right"


@pytest.mark.parametrize("side", ["right", "left"])
def test_chinese_is_cut_between_characters_where_each_is_a_word(side: str) -> None:
    text = "天地玄黄宇宙洪荒" * 500_000
    assert len(text) > MOST_CHARACTERS
    for kind in (tiny_tokenizer, cased, chinese):
        ((cut,),) = LongTexts(kind().backend_tokenizer, LENGTH, side).cut([[text]], str)
        assert len(cut) == WINDOW
        assert text.startswith(cut) if side == "right" else text.endswith(cut)
    with pytest.raises(InvalidDataError, match="a text of 4,000,000 characters"):
        LongTexts(tiny_unigram().backend_tokenizer, LENGTH, side).cut([[text]], str)


@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": normalizers.BertNormalizer(handle_chinese_chars=False)},
        {"normalizer": normalizers.Sequence([normalizers.BertNormalizer(), normalizers.Replace("天地", "x")])},
        {"pre_tokenizer": pre_tokenizers.Metaspace()},
    ],
)
def test_other_parts_may_look_at_several_chinese_characters(part: dict[str, Any]) -> None:
    backend = tiny_tokenizer().backend_tokenizer
    assert cuts_between_ideographs(backend.to_str())
    for name, value in part.items():
        setattr(backend, name, value)
    assert not cuts_between_ideographs(backend.to_str())


def test_added_tokens_with_chinese_characters_are_not_cut() -> None:
    backend = tiny_tokenizer().backend_tokenizer
    backend.add_tokens(["天地"])
    assert not cuts_between_ideographs(backend.to_str())


@pytest.mark.parametrize(
    "part",
    [
        {"normalizer": normalizers.Replace(Regex("r t"), "x")},
        {"normalizer": normalizers.Replace(" ", "_")},
        {"normalizer": normalizers.Replace("r", " ")},
        {"pre_tokenizer": pre_tokenizers.Split(Regex("r t"), "isolated")},
        {"pre_tokenizer": pre_tokenizers.Metaspace(split=False)},
        {"pre_tokenizer": pre_tokenizers.ByteLevel(use_regex=False)},
    ],
)
def test_tokenizers_that_look_across_spaces_are_not_cut(part: dict[str, Any]) -> None:
    backend = tiny_tokenizer().backend_tokenizer
    for name, value in part.items():
        setattr(backend, name, value)
    assert not cuts_between_words(backend.to_str(), "right")


def test_added_tokens_with_a_space_are_not_cut() -> None:
    backend = tiny_tokenizer().backend_tokenizer
    assert cuts_between_words(backend.to_str(), "right")
    backend.add_tokens(["river tiger"])
    assert not cuts_between_words(backend.to_str(), "right")


def test_a_long_text_costs_its_neighbours_nothing(student: Predictor) -> None:
    texts = ["the tiger", "the old river " * 1_000_000, "a stone"]
    found = student.predict(texts)
    assert found["label"].tolist()[::2] == student.predict(texts[::2])["label"].tolist()
