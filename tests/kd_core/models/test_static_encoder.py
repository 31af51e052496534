"""The static student: a bag of weighted tokens from the base encoder, the same stages, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers import models as tokenizer_models
from transformers import PreTrainedTokenizerFast

from kd_core.config.data import CLASSIFICATION
from kd_core.config.student import MOST_BIGRAMS, StudentParams
from kd_core.inference.batches import collate, encode
from kd_core.models.embeddings import token_vectors
from kd_core.models.loading import load_encoder
from kd_core.models.new_student import new_student
from kd_core.models.static_encoder import buckets_of
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import ParamsError
from tests.helpers import digits
from tests.helpers.one_unit import answered
from tests.helpers.tiny import LABELS, tiny_base, tiny_rows, tiny_student, tiny_task, tiny_tokenizer

digits.register()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


def static(base: Path, **params: Any) -> StudentModel:
    return tiny_student(base, **{"layers": 0, "heads": None, **params})


def batch_of(*texts: list[int]) -> dict[str, torch.Tensor]:
    length = max(map(len, texts))
    ids = torch.tensor([[*text, *[0] * (length - len(text))] for text in texts], dtype=torch.long)
    mask = torch.tensor([[1] * len(text) + [0] * (length - len(text)) for text in texts], dtype=torch.long)
    shape = (len(texts), length)
    return {"input_ids": ids.reshape(shape), "attention_mask": mask.reshape(shape)}


def test_embeddings_are_what_the_base_makes_of_each_token_alone(base: Path) -> None:
    encoder = load_encoder(base)
    table = token_vectors(encoder, 32)
    ids = torch.tensor([[7]])
    torch.testing.assert_close(table[7], encoder(input_ids=ids, attention_mask=ids * 0 + 1).last_hidden_state[0, 0])
    narrow = token_vectors(encoder, 31)
    assert narrow.shape == (len(table), 31)
    torch.testing.assert_close(torch.cdist(narrow, narrow), torch.cdist(table, table), atol=0.2, rtol=0.05)
    assert torch.equal(static(base).encoder.tokens.weight, token_vectors(encoder, 16))


def test_a_text_is_one_state_whatever_the_order_and_the_padding(base: Path) -> None:
    student = static(base)
    assert student.layer_count == 0
    first, padded = batch_of([2, 9, 8, 7, 3]), batch_of([2, 8, 7, 9, 3], [2, 5, 6, 7, 8, 9, 3])
    states = student.hidden_states(first)
    assert [state.shape for state in states] == [(1, 1, 16)]
    torch.testing.assert_close(student.hidden_states(padded)[0][:1], states[0])
    other = student.hidden_states(batch_of([2, 9, 8, 6, 3]))[0]
    assert not torch.allclose(other, states[0])


def test_a_token_s_weight_counts(base: Path) -> None:
    student = static(base)
    with torch.no_grad():
        student.encoder.weights[9] = 0.0
    left_out = student.encoder.norm(student.encoder.tokens.weight[8])  # a norm knows no scale
    student.encoder.widen.weight.data.zero_(), student.encoder.narrow.weight.data.zero_()
    torch.testing.assert_close(student.hidden_states(batch_of([9, 8]))[0][0, 0], left_out, atol=1e-3, rtol=1e-3)


def test_bigrams_tell_the_order(base: Path) -> None:
    student = static(base, bigrams=64)
    one, two = batch_of([2, 9, 8, 3]), batch_of([2, 8, 9, 3])
    torch.testing.assert_close(student.embed(one), student.embed(two))  # they begin at nothing
    torch.nn.init.normal_(student.encoder.bigrams.weight)
    assert not torch.allclose(student.embed(one), student.embed(two))
    torch.testing.assert_close(student.embed(batch_of([2, 9, 8, 3], [2, 9, 8, 7, 7, 3]))[:1], student.embed(one))


def test_buckets_are_spread_and_within_bounds() -> None:
    first, second = torch.meshgrid(torch.arange(300) * 833, torch.arange(300) * 833, indexing="ij")
    for count in (1, 1000, 65_536):
        found = buckets_of(first, second, count)
        assert found.min() >= 0
        assert found.max() < count
    used = len(torch.unique(found))
    assert used > 0.7 * 65_536, "90,000 pairs by chance would use 1 - exp(-90000 / 65536) of the buckets"


@pytest.mark.parametrize("bigrams", [0, 64])
def test_texts_without_known_tokens_and_without_any_are_answered(base: Path, bigrams: int) -> None:
    student = static(base, bigrams=bigrams)
    unknown = tiny_tokenizer()("☃ ☃")["input_ids"]
    for batch in (batch_of(unknown, [2, 9, 3]), batch_of([], [9]), batch_of([]), batch_of([9])):
        found = answered(student, batch)
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found.sum(-1), torch.ones(len(found)))


def test_gradients_touch_the_rows_of_the_texts_only(base: Path) -> None:
    student = static(base, bigrams=64)
    answered(student, batch_of([2, 9, 3])).max().backward()
    assert student.encoder.tokens.weight.grad.is_sparse
    assert student.encoder.tokens.weight.grad.coalesce().indices().flatten().tolist() == [2, 3, 9]
    assert len(student.encoder.bigrams.weight.grad.coalesce().indices()[0]) == 2


def test_saved_and_loaded_it_is_the_same(base: Path, tmp_path: Path) -> None:
    student = static(base, bigrams=8)
    student.save_pretrained(tmp_path)
    loaded = StudentModel.from_pretrained(tmp_path)
    assert all(torch.equal(value, student.state_dict()[key]) for key, value in loaded.state_dict().items())
    batch = collate(encode(tiny_rows(6), tiny_tokenizer(), tiny_task()), range(6), 0)
    assert torch.equal(answered(loaded, batch), answered(student, batch))


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"heads": 2}, "no attention: set heads to null"),
        ({"pooling": "cls"}, "set pooling to mean"),
        ({"bigrams": -1}, "greater than or equal to 0"),
        ({"bigrams": 10**9}, f"less than or equal to {MOST_BIGRAMS}"),
        ({"layers": 1, "bigrams": 8}, "static student"),
        ({"layers": [0], "bigrams": 8}, "static student"),
        ({"layers": -1}, "layers"),
    ],
)
def test_what_does_not_go_together_is_refused(params: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        StudentParams.model_validate({"base": "b", "layers": 0, **params})


def test_vocabularies_that_are_too_small_are_refused(tmp_path: Path) -> None:
    words = Tokenizer(tokenizer_models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    single = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[UNK]")
    with pytest.raises(ParamsError, match="vocabulary has one token"):
        static(tiny_base(tmp_path / "single", tokenizer=single))
    few = Tokenizer(tokenizer_models.WordLevel({"[UNK]": 0, "one": 1, "two": 2}, unk_token="[UNK]"))
    several = PreTrainedTokenizerFast(tokenizer_object=few, unk_token="[UNK]", pad_token="[UNK]")
    with pytest.raises(ParamsError, match=r"student\.hidden 16: .* 3 tokens only"):
        static(tiny_base(tmp_path / "several", tokenizer=several))


def test_a_width_beyond_the_base_s_is_refused(base: Path) -> None:
    with pytest.raises(ParamsError, match=r"student\.hidden 64 is wider"):
        static(base, hidden=64)


def test_kinds_that_ask_of_parts_of_a_text_are_refused(base: Path) -> None:
    spec = StudentParams(base=str(base), layers=0, hidden=16)
    with pytest.raises(ParamsError, match=r"student\.layers: 0 answers whole texts only, and 'count_digits'"):
        new_student(spec, {"gold": digits.LABELS}, digits.LABELS, base, digits.KIND)
    with pytest.raises(ParamsError, match="'count_digits'"):
        new_student(spec, {"t": LABELS}, LABELS, base, CLASSIFICATION, {"t": digits.KIND})
