"""Rows become token ids, targets and batches as the task says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_core.inference.batches import collate, encode, token_batches
from kd_core.runtime.errors import InvalidDataError
from tests.helpers.one_unit import targets_of
from tests.helpers.tiny import tiny_rows, tiny_task, tiny_tokenizer


def test_targets_follow_the_order_of_the_labels() -> None:
    rows = tiny_rows(6)
    rows.loc[4, "label"] = None
    encoded = encode(rows, tiny_tokenizer(), tiny_task())
    assert targets_of(encoded).tolist() == [0, 1, 2, 0, -100, 2]
    assert encode(rows.drop(columns="label"), tiny_tokenizer(), tiny_task()).targets.values.tolist()[:1] == [-100]


def test_pairs_are_told_apart_by_token_types() -> None:
    encoded = encode(tiny_rows(4, pair=True), tiny_tokenizer(), tiny_task(pair=True))
    assert encoded.token_type_ids is not None
    assert set(encoded.token_type_ids[0]) == {0, 1}


def test_a_pair_task_needs_the_second_text() -> None:
    with pytest.raises(InvalidDataError, match="text_pair"):
        encode(tiny_rows(4), tiny_tokenizer(), tiny_task(pair=True))


def test_long_and_odd_texts_are_cut_not_refused() -> None:
    texts = ["list " * 100_000, "😀 🎻", "שלום עולם", ""]
    rows = pd.DataFrame({"id": list("abcd"), "text": texts, "label": None})
    encoded = encode(rows, tiny_tokenizer(), tiny_task(max_length=16))
    assert encoded.lengths[0] == 16
    assert min(encoded.lengths) >= 2
    assert max(encode(rows, tiny_tokenizer(), tiny_task(max_length=16), max_length=8).lengths) == 8


def test_no_rows_encode_to_nothing() -> None:
    encoded = encode(tiny_rows(0), tiny_tokenizer(), tiny_task())
    assert len(encoded) == 0
    assert token_batches(encoded.lengths, 64) == []


def test_collate_pads_and_masks() -> None:
    encoded = encode(tiny_rows(5), tiny_tokenizer(), tiny_task())
    batch = collate(encoded, [3, 1], pad_id=9)
    assert batch["attention_mask"].sum(1).tolist() == [encoded.lengths[3], encoded.lengths[1]]
    assert batch["input_ids"].shape[1] == max(encoded.lengths[3], encoded.lengths[1])
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 9).all()
    assert batch["input_ids"][1, : encoded.lengths[1]].tolist() == encoded.input_ids[1]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 60), max_size=80), budget=st.integers(8, 300), seed=st.none() | st.integers(0, 99)
)
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int, seed: int | None) -> None:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    batches = token_batches(lengths, budget, generator)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) * max(lengths[index] for index in batch) <= budget or len(batch) == 1


def test_epochs_differ_repeat_by_seed_and_waste_little_padding() -> None:
    lengths = torch.randint(4, 40, (2000,), generator=torch.Generator().manual_seed(0)).tolist()
    generator = torch.Generator().manual_seed(1)
    first, second = token_batches(lengths, 1024, generator), token_batches(lengths, 1024, generator)
    assert first != second
    assert first == token_batches(lengths, 1024, torch.Generator().manual_seed(1))
    padded = sum(len(batch) * max(lengths[index] for index in batch) for batch in first)
    assert padded <= 1.2 * sum(lengths)


def test_batches_by_length_waste_at_most_a_twentieth_on_padding() -> None:
    """Lengths as short texts have them: many of a dozen tokens, few long ones."""
    draws = np.random.default_rng(0).lognormal(2.8, 0.5, 4000)
    lengths = [max(4, min(64, int(length))) for length in draws]
    for budget in (512, 2048):
        batches = token_batches(lengths, budget, torch.Generator().manual_seed(1))
        padded = sum(max(lengths[index] for index in batch) * len(batch) for batch in batches)
        assert 1 - sum(lengths) / padded <= 0.05, budget
