"""A split without rows is explained: by its size, or by a group that is larger than the split."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from kd_core.config.data import DataParams
from kd_core.data.checks.empty_splits import explain_empty
from kd_core.data.dataset import Dataset, build_dataset
from kd_core.data.splits.ledger import Ledger

TEMPLATE = (
    "transfer of {} euros to account {} failed yesterday evening as the bank said that our card was not valid at all "
    "and must be renewed by {}"
)


def params_of(similarity: float = 0.8, **split: float) -> DataParams:
    task = {"kind": "classification", "labels": ["a", "b"]}
    values: dict[str, Any] = {"source": {"kind": "files", "path": "x"}, "task": task, "split": split}
    values["validation"] = {"duplicate_similarity": similarity}
    return DataParams.model_validate(values)


def rows_of(texts: list[str]) -> pd.DataFrame:
    ids = [f"{n:04d}" for n in range(len(texts))]
    return pd.DataFrame({"id": ids, "text": texts, "label": ["ab"[n % 2] for n in range(len(texts))]}, dtype=object)


def explained(dataset: Dataset, params: DataParams) -> str:
    frames = [frame.assign(split=name) for name, frame in dataset.splits.items() if name != "unlabelled"]
    return explain_empty(pd.concat(frames), params, "reference", dataset.notes)


@pytest.mark.parametrize("others", [0, 40])
def test_a_group_too_large_for_a_split_is_named_with_its_share_and_what_to_do(others: int) -> None:
    texts = [TEMPLATE.format(1000 + n, 5000 + n, 2000 + n) for n in range(60)]
    params = params_of(train=0.5, valid=0.3, calibration=0.1, test=0.1)
    dataset = build_dataset(rows_of(texts + ["hello there"] * others), params, Ledger(), "1", "reference")
    said = explained(dataset, params)
    assert f"has 60 of {60 + others} rows ({60 / (60 + others):.0%})" in said
    assert "transfer of 1000 euros" in said
    assert "raise data.reference.validation.duplicate_similarity (now 0.8; at 1 only" in said
    assert "raise its size" not in said
    assert "noted: test has 0 labelled rows" in said


@pytest.mark.parametrize("alike", [0, 8])
def test_a_split_whose_size_is_too_small_is_told_to_grow(alike: int) -> None:
    """Whatever the largest group is: a split that is to have no rows has room for none."""
    params = params_of(train=0.9, valid=0.0, calibration=0.05, test=0.05)
    texts = ["hello there"] * alike + [f"a{n} b{n} c{n}" for n in range(200 - alike)]
    said = explained(build_dataset(rows_of(texts), params, Ledger(), "1", "reference"), params)
    assert "raise its size in data.reference.split" in said
    assert "largest group" not in said


def test_at_a_similarity_of_one_templates_can_be_split() -> None:
    texts = [TEMPLATE.format(1000 + n, 5000 + n, 2000 + n) for n in range(60)]
    params = params_of(similarity=1.0)
    dataset = build_dataset(rows_of(texts), params, Ledger(), "1", "reference")
    assert all(len(frame) for frame in dataset.splits.values())
