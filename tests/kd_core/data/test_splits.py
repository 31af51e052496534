"""Splits: sizes, strata, groups that never straddle, and faithfulness over revisions."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_core.config.data import DataParams, SplitParams
from kd_core.data.dataset import Dataset, build_dataset
from kd_core.data.splits.assignment import Group, assign
from kd_core.data.splits.ledger import Ledger
from kd_core.data.splits.places import ledger_name
from kd_core.data.splits.words import word_set
from kd_core.runtime.errors import InvalidDataError, ParamsError

TASK = {"kind": "classification", "labels": ["a", "b", "c"]}
TRAINED_ON = {"train", "unlabelled", "valid", "calibration"}


def rows_of(numbers: Sequence[int], split: str | None = None) -> pd.DataFrame:
    """Row n: words of its own, so that no two rows are near-duplicates; labels a, b, c in turn."""
    frame = pd.DataFrame(
        {
            "id": [f"{n:05d}" for n in numbers],
            "text": [f"w{n} x{n} y{n} z{n} v{n}" for n in numbers],
            "label": [TASK["labels"][n % 3] for n in numbers],
        },
        dtype=object,
    )
    return frame if split is None else frame.assign(split=split)


def build(rows: pd.DataFrame, ledger: Ledger | None = None, task: object = TASK, **split: float) -> Dataset:
    params = DataParams.model_validate({"source": {"kind": "files", "path": "x"}, "task": task, "split": split})
    return build_dataset(rows, params, ledger or Ledger(), "1", "reference")


def split_of(dataset: Dataset) -> dict[str, str]:
    frames = {
        name: frame for name, frame in dataset.splits.items() if not (name == "unlabelled" and dataset.unlabelled_from)
    }
    return {key: name for name, frame in frames.items() for key in frame["id"]}


def test_counts_are_met_and_strata_are_in_proportion() -> None:
    dataset = build(rows_of(range(600)), train=150, valid=30, calibration=60, test=90)
    sizes = {name: len(frame) for name, frame in dataset.splits.items()}
    assert sizes == {"train": 150, "valid": 30, "calibration": 60, "test": 90, "unlabelled": 270}
    assert Counter(dataset.splits["test"]["label"]) == {"a": 30, "b": 30, "c": 30}
    assert dataset.splits["unlabelled"]["label"].isna().all()


def test_shares_that_add_up_leave_nothing_unlabelled_so_train_stands_in() -> None:
    dataset = build(rows_of(range(101)))
    assert dataset.unlabelled_from == "train"
    labelled = [len(dataset.splits[name]) for name in ("train", "valid", "calibration", "test")]
    assert sum(labelled) == 101
    assert dataset.splits["unlabelled"]["id"].tolist() == dataset.splits["train"]["id"].tolist()
    assert dataset.splits["unlabelled"]["label"].isna().all()


def test_a_rare_class_has_a_training_row() -> None:
    rows = rows_of(range(300))
    rows["label"] = ["a"] * 150 + ["b"] * 149 + ["c"]
    for seed in range(5):
        dataset = build(rows, train=30, valid=30, calibration=30, test=120, seed=seed)
        assert set(dataset.splits["train"]["label"]) == {"a", "b", "c"}


def test_too_many_rows_asked_for_and_shares_above_one() -> None:
    with pytest.raises(InvalidDataError, match=r"asks for 700 labelled rows .* there are 600"):
        build(rows_of(range(600)), train=400, valid=100, calibration=100, test=100)
    with pytest.raises(ParamsError, match="more than 1"):
        build(rows_of(range(600)), train=0.9, valid=0.2)


def test_rows_without_a_label_are_unlabelled_text() -> None:
    rows = rows_of(range(60))
    rows.loc[50:, "label"] = None
    dataset = build(rows)
    assert set(dataset.splits["unlabelled"]["id"]) == {f"{n:05d}" for n in range(50, 60)}


@settings(deadline=None, max_examples=60)
@given(
    group_of=st.lists(st.integers(0, 25), min_size=12, max_size=80),
    seed=st.integers(0, 5),
    unlabelled=st.sets(st.integers(0, 79)),
)
def test_near_duplicates_never_straddle(group_of: list[int], seed: int, unlabelled: set[int]) -> None:
    rows = pd.DataFrame(
        {
            "id": [f"{i:03d}" for i in range(len(group_of))],
            "text": [f"p{g} q{g} r{g} s{g} t{g} u{g} own{i}" for i, g in enumerate(group_of)],
            "label": [None if i in unlabelled else "abc"[g % 3] for i, g in enumerate(group_of)],
        },
        dtype=object,
    )
    params = {"source": {"kind": "files", "path": "x"}, "task": TASK, "split": {"seed": seed}}
    params["validation"] = {"duplicate_similarity": 0.7}
    dataset = build_dataset(rows, DataParams.model_validate(params), Ledger(), "1", "reference")
    side = {"train": "training", "unlabelled": "training"}
    sides: dict[int, set[str]] = {}
    for key, split in split_of(dataset).items():
        sides.setdefault(group_of[int(key)], set()).add(side.get(split, split))
    assert all(len(found) == 1 for found in sides.values())
    if dataset.unlabelled_from is None:
        assert set(dataset.splits["unlabelled"]["id"]).isdisjoint(dataset.splits["train"]["id"])


def test_linked_rows_stay_together() -> None:
    rows = rows_of(range(120)).assign(link=[str(n // 4) for n in range(120)])
    found = split_of(build(rows))
    assert all(len({found[f"{n:05d}"] for n in range(i, i + 4)}) == 1 for i in range(0, 120, 4))


@pytest.mark.parametrize("sizes", [{"train": 100, "valid": 30, "calibration": 30, "test": 60}, {}])
def test_splits_stay_over_revisions(sizes: dict[str, float]) -> None:
    """Rows added, removed and changed: what stays keeps its split, and nothing trained on is ever tested on."""
    generator = random.Random(7)
    numbers = list(range(400))
    dataset = build(rows_of(numbers), **sizes)
    trained: set[str] = set()
    for revision in range(6):
        found = split_of(dataset)
        trained |= {key for key, split in found.items() if split in TRAINED_ON}
        before = found
        numbers = sorted({*generator.sample(numbers, 380), *range(1000 * revision + 1000, 1000 * revision + 1040)})
        dataset = build(rows_of(numbers), dataset.ledger, **sizes)
        after = split_of(dataset)
        moved = {key for key in before.keys() & after.keys() if before[key] != after[key]}
        assert all(before[key] == "unlabelled" and after[key] in TRAINED_ON for key in moved)
        assert not trained & set(dataset.splits["test"]["id"])
        if sizes:
            assert {name: len(dataset.splits[name]) for name in sizes} == sizes


def test_a_changed_text_near_a_removed_training_text_is_not_tested_on() -> None:
    first = build(rows_of(range(300)), train=100, valid=20, calibration=20, test=100)
    seen = first.splits["train"]["id"].tolist()
    changed = rows_of(range(300))
    changed["text"] = [
        text + " edited" if key in seen else text for key, text in zip(changed["id"], changed["text"], strict=True)
    ]
    second = build(changed, first.ledger, train=10, valid=20, calibration=20, test=150)
    assert not set(seen) & set(second.splits["test"]["id"])


def test_a_bridge_between_test_and_train_moves_the_group_to_training_and_says_so() -> None:
    base = ["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"]
    rows = rows_of(range(60))
    left, bridge, right = " ".join([*base, "l1", "l2"]), " ".join([*base, "l1", "r1"]), " ".join([*base, "r1", "r2"])
    ledger = Ledger({word_set(left): "train", word_set(right): "test"})
    extra = pd.DataFrame({"id": ["l", "m", "r"], "text": [left, bridge, right], "label": ["a"] * 3}, dtype=object)
    dataset = build(pd.concat([rows, extra]), ledger)
    found = split_of(dataset)
    assert [found[key] for key in "lmr"] == ["train"] * 3
    assert any("left the test split" in note for note in dataset.notes)
    assert {dataset.ledger.splits[word_set(text)] for text in (left, bridge, right)} == {"train"}


def test_raising_and_lowering_the_label_budget_keeps_the_test_set() -> None:
    sizes = {"valid": 30, "calibration": 30, "test": 60}
    first = build(rows_of(range(400)), train=100, **sizes)
    more = build(rows_of(range(400)), first.ledger, train=200, **sizes)
    less = build(rows_of(range(400)), more.ledger, train=50, **sizes)
    ids = [set(d.splits["train"]["id"]) for d in (less, first, more)]
    assert [len(i) for i in ids] == [50, 100, 200]
    assert ids[0] < ids[2]
    assert ids[1] < ids[2]
    assert len({tuple(d.splits["test"]["id"]) for d in (first, more, less)}) == 1


def test_labels_a_class_are_limited_and_a_larger_limit_keeps_those_of_a_smaller() -> None:
    chosen = {}
    for limit in (5, 20):
        dataset = build(rows_of(range(600)), train_per_class=limit)
        assert Counter(dataset.splits["train"]["label"]) == {"a": limit, "b": limit, "c": limit}
        assert dataset.splits["unlabelled"]["label"].isna().all()
        assert len(dataset.splits["unlabelled"]) == 360 - 3 * limit
        assert any(f"{360 - 3 * limit} training rows became unlabelled" in note for note in dataset.notes)
        chosen[limit] = set(dataset.splits["train"]["id"])
    assert chosen[5] < chosen[20]
    whole = build(rows_of(range(600)))
    for name in ("valid", "calibration", "test"):
        assert whole.splits[name]["id"].tolist() == dataset.splits[name]["id"].tolist()
    assert chosen[20] < set(whole.splits["train"]["id"])


def test_labels_a_class_are_limited_in_a_given_training_file_too() -> None:
    rows = pd.concat([rows_of(range(300), "train"), rows_of(range(300, 390), "test")], ignore_index=True)
    dataset = build(rows, train_per_class=7, valid=30, calibration=30)
    assert Counter(dataset.splits["train"]["label"]) == {"a": 7, "b": 7, "c": 7}
    assert {name: len(frame) for name, frame in dataset.splits.items()} == {
        "train": 21, "valid": 30, "calibration": 30, "test": 90, "unlabelled": 219,
    }  # fmt: skip


def test_given_splits_stay_and_their_near_duplicates_leave_training() -> None:
    train, test = rows_of(range(100), "train"), rows_of(range(200, 230), "test")
    copy = test.head(2).assign(id=["copy-1", "copy-2"], split=["train", "unlabelled"])
    dataset = build(pd.concat([train, test, copy]))
    found = split_of(dataset)
    assert set(dataset.splits["test"]["id"]) == set(test["id"])
    assert not {"copy-1", "copy-2"} & found.keys()
    assert any("2 rows left out" in note for note in dataset.notes)
    assert len(dataset.splits["valid"]) == 10
    assert len(dataset.splits["train"]) == 80


def test_given_test_rows_that_were_trained_on_are_left_out() -> None:
    first = build(rows_of(range(100)))
    trained = first.splits["train"]["id"].tolist()
    second = rows_of(range(100)).assign(split="train")
    second.loc[second["id"].isin(trained[:5]), "split"] = "test"
    second = pd.concat([second, rows_of(range(500, 520), "test")])
    dataset = build(second, first.ledger)
    assert not set(trained) & set(dataset.splits["test"]["id"])
    assert any("5 rows left out of test" in note for note in dataset.notes)


def test_without_a_task_everything_is_unlabelled() -> None:
    dataset = build(rows_of(range(10)), task=None)
    assert len(dataset.splits["unlabelled"]) == 10
    assert dataset.splits["unlabelled"]["label"].isna().all()


def test_an_unlabelled_group_of_an_earlier_revision_may_train_but_not_test() -> None:
    groups = [Group(str(n), ("a",), frozenset({"unlabelled"})) for n in range(50)]
    assignment = assign(groups, SplitParams(train=10, valid=5, calibration=5, test=20))
    assert Counter(assignment.splits.values()) == {"train": 10, "valid": 5, "calibration": 5, "unlabelled": 30}
    assert any(note.startswith("test has 0") for note in assignment.notes)


def test_the_ledger_survives_a_round_trip_and_equal_ones_give_equal_bytes(tmp_path: Path) -> None:
    ledger = build(rows_of(range(60))).ledger
    ledger.write(tmp_path / "a.parquet")
    found = Ledger.from_bytes((tmp_path / "a.parquet").read_bytes(), ledger_name("a"))
    assert found == ledger
    Ledger(dict(reversed(found.splits.items())), found.revision, found.label_shares).write(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(InvalidDataError, match=r"ledgers/a\.parquet: not a split ledger"):
        Ledger.from_bytes(b"PAR1", ledger_name("a"))


def test_a_training_text_that_comes_back_after_a_revision_is_not_tested_on() -> None:
    first = build(rows_of(range(200)), train=100, valid=20, calibration=20, test=40)
    trained = [int(key) for key in first.splits["train"]["id"]]
    without = build(rows_of(sorted({*range(200)} - set(trained))), first.ledger)
    back = build(rows_of(range(200)), without.ledger, train=20, valid=20, calibration=20, test=140)
    assert not set(first.splits["train"]["id"]) & set(back.splits["test"]["id"])


def test_a_larger_training_split_takes_unlabelled_rows_not_test_rows_even_without_a_ledger() -> None:
    sizes = {"valid": 30, "calibration": 30, "test": 60}
    small, large = build(rows_of(range(300)), train=60, **sizes), build(rows_of(range(300)), train=150, **sizes)
    assert set(small.splits["test"]["id"]) == set(large.splits["test"]["id"])
    assert set(small.splits["train"]["id"]) < set(large.splits["train"]["id"])
