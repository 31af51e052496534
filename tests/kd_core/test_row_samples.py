"""A sample of a split: the same rows each time, with every label among them."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from kd_core.row_samples import stratified_sample


def rows_of(labels: list[object]) -> pd.DataFrame:
    ids = [f"{label}-{n:04d}" for n, label in enumerate(labels)]
    frame = pd.DataFrame({"id": ids, "label": pd.Series(labels, dtype=object)})
    return frame.sort_values("id", ignore_index=True)


def test_labels_keep_their_shares_and_a_rare_one_is_among_them() -> None:
    sample = stratified_sample(rows_of(["a"] * 700 + ["b"] * 297 + ["c"] * 3), 100)
    counts = Counter(sample["label"])
    assert len(sample) == 100
    assert counts["c"] >= 1
    assert abs(counts["a"] - 70) <= 2
    assert sample["id"].is_monotonic_increasing


def test_the_rows_are_drawn_from_all_over_their_label() -> None:
    numbers = [int(key.split("-")[1]) for key in stratified_sample(rows_of(["a"] * 1000), 50)["id"]]
    assert min(numbers) < 200
    assert max(numbers) > 800


def test_the_order_of_the_rows_does_not_matter_and_few_rows_are_all_taken() -> None:
    rows = rows_of(["a"] * 60 + ["b"] * 40)
    shuffled = rows.sample(frac=1.0, random_state=3)
    assert set(stratified_sample(rows, 20)["id"]) == set(stratified_sample(shuffled, 20)["id"])
    assert stratified_sample(rows, 100) is rows


def test_rows_of_several_labels_and_rows_without_any() -> None:
    sample = stratified_sample(rows_of([("a",), ("a", "b"), (), None] * 50), 8)
    assert Counter(sample["label"].map(str)) == {"('a',)": 2, "('a', 'b')": 2, "()": 2, "None": 2}
