"""Rows with several labels or none: read from every format, kept on disk, stratified, validated."""

from __future__ import annotations

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pytest

from kd_core.config.data import MULTI_LABEL, DataParams, HuggingFaceSource
from kd_core.data.dataset import Dataset, build_dataset, label_shares
from kd_core.data.sources.files import read_files
from kd_core.data.sources.huggingface import read_huggingface
from kd_core.data.splits.assignment import Group, assign, strata_of
from kd_core.data.splits.ledger import Ledger
from kd_core.rows import read_rows, rows_hash, write_rows
from kd_core.runtime.errors import InvalidDataError
from tests.helpers.tiny_multi_label import LABELS, SHARES, multi_label_rows
from tests.helpers.workspace import record, row_form, splits, stage, write_params

CELLS: list[Any] = [("blue", "red"), ("red",), (), None]
TASK = {"kind": MULTI_LABEL, "labels": list(LABELS)}


def read(path: Path, separator: str = "|") -> list[Any]:
    frame, _ = read_files({None: [path]}, row_form(separator=separator))
    return frame["label"].tolist()


# Reading


def test_csv_cells_are_cut_at_the_separator_and_a_lone_one_says_none(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("text,label\na,red|blue\nb,red\nc,|\nd,\ne, red | blue |red\n")
    assert read(path) == [*CELLS, ("blue", "red")]
    path.write_text("text,label\na,red; blue\nb,red|blue\n")
    assert read(path, ";") == [("blue", "red"), ("red|blue",)]


def test_lists_in_jsonl_and_parquet_are_taken_as_they_are(tmp_path: Path) -> None:
    given = [["red", "blue", "red"], ["red"], [], None]
    lines = [json.dumps({"text": str(i), "label": label}) for i, label in enumerate(given)]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    assert read(tmp_path / "x.jsonl") == CELLS
    pd.DataFrame({"text": list("abcd"), "label": given}).to_parquet(tmp_path / "x.parquet")
    assert read(tmp_path / "x.parquet") == CELLS
    pd.DataFrame({"text": list("abc"), "label": [[3, 1], [], None]}).to_parquet(tmp_path / "n.parquet")
    assert read(tmp_path / "n.parquet") == [("1", "3"), (), None]


def test_twins_with_other_labels_have_other_ids(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,label\nsame,red\nsame,blue\n")
    ids = read_files({None: [tmp_path / "x.csv"]}, row_form(separator="|"))[0]["id"].tolist()
    assert not any("-" in name for name in ids)
    assert len(set(ids)) == 2


def test_class_numbers_of_a_hugging_face_list_become_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.List(datasets.ClassLabel(names=["red", "blue"]))}
    )
    rows = {"text": list("abcd"), "label": [[0, 1], [0], [], None]}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "set" / "train.parquet")
    source = HuggingFaceSource(kind="huggingface", name=str(tmp_path / "set"))
    found, _ = read_huggingface(source, "main", row_form(separator=source.label_separator))
    assert found["label"].tolist() == CELLS


# On disk


def test_label_lists_survive_the_disk_and_none_is_not_unlabelled(tmp_path: Path) -> None:
    frame = multi_label_rows(4).assign(label=pd.Series(CELLS, dtype=object))
    write_rows(tmp_path / "x.parquet", frame)
    found = read_rows(tmp_path / "x.parquet")
    assert found["label"].tolist() == CELLS
    assert rows_hash(found) == rows_hash(frame)
    assert rows_hash(frame) != rows_hash(frame.assign(label=pd.Series([*CELLS[:3], ()], dtype=object)))
    assert pd.read_parquet(tmp_path / "x.parquet")["label"][0].tolist() == ["blue", "red"], "a list, for any reader"


def test_a_list_of_numbers_is_refused_by_file(tmp_path: Path) -> None:
    multi_label_rows(1).assign(label=[[1.5]]).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InvalidDataError, match=r"x\.parquet: column 'label' holds list<.*double>, not text"):
        read_rows(tmp_path / "x.parquet")


# Splits


def build(rows: pd.DataFrame, **split: float) -> Dataset:
    params = DataParams.model_validate({"source": {"kind": "files", "path": "x"}, "task": TASK, "split": split})
    return build_dataset(rows.drop(columns="group"), params, Ledger(), "1", "reference")


def test_a_row_belongs_to_the_stratum_of_its_rarest_label() -> None:
    labels = [("a", "b"), ("a", "b", "c"), ("a",), (), None, ("b",)]
    assert strata_of(labels) == ["a", "c", "a", "(no label)", None, "b"]


def test_every_label_and_none_is_in_proportion_in_every_split() -> None:
    rows = multi_label_rows(1000, noise=4)
    dataset = build(rows, train=400, valid=100, calibration=100, test=200)
    sizes = {name: len(frame) for name, frame in dataset.splits.items()}
    assert sizes == {"train": 400, "valid": 100, "calibration": 100, "test": 200, "unlabelled": 200}
    whole = Counter(label for row in rows["label"] for label in row or ("none",))
    for name in ("train", "valid", "calibration", "test"):
        found = Counter(label for row in dataset.splits[name]["label"] for label in row or ("none",))
        for label, count in whole.items():
            share, size = count / 1000, sizes[name]
            # The rarest labels and none are strata of their own; the commonest may vary, but less than by chance.
            allowed = 1.5 if label in {"grey", "none"} else 2 * math.sqrt(size * share * (1 - share))
            assert abs(found[label] - share * size) <= allowed, (name, label)
    assert dataset.splits["unlabelled"]["label"].isna().all()


def test_each_label_has_a_training_row_though_it_is_nobody_s_stratum() -> None:
    """`common` stands only beside `rare`, which is rarer or as rare: the stratum of all its rows."""
    groups = [Group(f"g{n}", ("rare",), more_labels=frozenset({"common"} if n == 7 else ())) for n in range(40)]
    params = DataParams.model_validate({"source": {"kind": "files", "path": "x"}, "split": {"train": 2, "test": 20}})
    for seed in range(8):
        split = params.split.model_copy(update={"seed": seed, "valid": 0.0, "calibration": 0.0})
        assert assign(groups, split).splits["g7"] == "train"


def test_labels_are_limited_so_that_each_keeps_as_many_rows_as_it_may() -> None:
    rows, kept = multi_label_rows(700, noise=4), {}
    for limit in (5, 20):
        dataset = build(rows, train=400, valid=50, calibration=50, test=100, train_per_class=limit)
        found = Counter(label for row in dataset.splits["train"]["label"] for label in row or ("none",))
        assert set(found) == {*LABELS, "none"}
        assert min(found.values()) >= limit
        assert found["none"] == limit
        assert len(dataset.splits["train"]) <= limit * len(found)
        kept[limit] = set(dataset.splits["train"]["id"])
    assert kept[5] < kept[20]


def test_shares_count_every_label_and_rows_without() -> None:
    assert label_shares(pd.Series(CELLS, dtype=object)) == {"(no label)": 0.25, "blue": 0.25, "red": 0.5}


# Validation


def workspace(root: Path, rows: pd.DataFrame, **more: Any) -> dict[str, Any]:
    """Rows in a csv, through ingest and validate."""
    cells = [None if row is None else "|".join(row) or "|" for row in rows["label"]]
    root.mkdir(parents=True, exist_ok=True)
    rows.assign(label=cells)[["text", "label"]].to_csv(root / "rows.csv", index=False)
    data = {"source": {"kind": "files", "path": str(root / "rows.csv")}, "task": TASK, **more}
    write_params(root, data, {**data, "task": None})
    for role in ("reference", "pretraining"):
        stage(root, "ingest", role)
    stage(root, "validate")
    return record(root, "checked")


def test_good_rows_pass_and_keep_their_labels(tmp_path: Path) -> None:
    rows = multi_label_rows(300, noise=4)
    rows.loc[250:, "label"] = None
    checked = workspace(tmp_path, rows, split={"train": 100, "valid": 40, "calibration": 30, "test": 60})
    assert checked["validation"]["faulty_rows"] == 0
    assert checked["source"]["label_separator"] == "|"
    found = pd.concat(splits(tmp_path, "checked").values())
    labelled = found[found["label"].notna()].set_index("text")["label"]
    assert len(labelled) == 230
    wanted = rows.set_index("text")["label"]
    assert all(wanted[text] == label for text, label in labelled.items())
    counts = Counter(label for row in splits(tmp_path, "checked")["train"]["label"] for label in row or ("(no label)",))
    assert checked["labels"]["train"] == dict(counts)


def test_labels_outside_the_set_are_listed_without_those_inside(tmp_path: Path) -> None:
    rows = multi_label_rows(200, noise=4)
    for index in range(10):
        rows.at[index, "label"] = ("red", "violet" if index % 2 else "pink")
    with pytest.raises(InvalidDataError, match=r"label outside the set\nunknown labels: 'pink', 'violet'\n"):
        workspace(tmp_path / "a", rows)
    checked = workspace(tmp_path / "b", rows, validation={"tolerance": 0.1})
    assert checked["validation"]["set_aside"] == {"label outside the set": 10}
    rejected = pd.read_parquet(tmp_path / "b" / "validation" / "reference" / "rejected.parquet")
    assert {tuple(row) for row in rejected["label"]} == {("red", "violet"), ("pink", "red")}


def test_a_label_without_rows_stops_the_run(tmp_path: Path) -> None:
    rows = multi_label_rows(200, noise=4)
    nobody = rows.assign(label=[tuple(label for label in row if label != "grey") for row in rows["label"]])
    with pytest.raises(InvalidDataError, match=r"lacks 1 of 4 classes: .*missing 'grey'"):
        workspace(tmp_path, nobody)


def test_the_shares_of_the_rows_are_those_that_were_drawn() -> None:
    """The other tests rest on them: most rows have another number of labels than one."""
    rows = multi_label_rows(4000)
    found = [np.mean([name in row for row in rows["label"]]) for name in LABELS]
    assert found == pytest.approx(SHARES, abs=0.03)
    assert 0.35 < np.mean([len(row) == 1 for row in rows["label"]]) < 0.5
