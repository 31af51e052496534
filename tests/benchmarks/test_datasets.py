"""Public data sets in miniature: their own splits are kept, and who lacks the folder is told what to set."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from benchmarks import datasets
from benchmarks.progress import Board
from benchmarks.workbench import Workbench
from kd_core.rows import read_rows
from kd_core.runtime.errors import ParamsError

pytestmark = pytest.mark.slow


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shared"
    labels = ["lost card", "exchange"]
    for name, count in (("train", 80), ("test", 10)):
        path = folder / "banking77" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            rows = [(f'{name} "text" {i}, x{i} y{i} z{i}', labels[i % 2]) for i in range(count)]
            csv.writer(file).writerows([("text", "category"), *rows])
    (folder / "banking77" / "categories.json").write_text(json.dumps(labels))
    (folder / "sst2").mkdir()
    for name in ("train", "dev", "test"):
        lines = [f"{i % 2} {name} crème x{i} y{i} z{i} ." for i in range(60 if name == "train" else 9)]
        data = "\n".join(lines).encode("utf-8" if name == "dev" else "latin-1")
        (folder / "sst2" / f"stsa.binary.{name}").write_bytes(data + b"\n")
    (folder / "rte").mkdir()
    for name, count in (("train", 60), ("dev", 8)):
        rows = [
            f'{i}\t{name} a "quoted" x{i}\tsecond {i} y{i} z{i}\t{"not_" * (i % 2)}entailment' for i in range(count)
        ]
        (folder / "rte" / f"{name}.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *rows]) + "\n")
    monkeypatch.setenv("KD_SHARED_DATA", str(folder))
    return folder


@pytest.mark.parametrize(
    ("name", "train", "test", "first", "labels"),
    [
        ("banking77", 80, 10, ('test "text" 0, x0 y0 z0', "lost card"), {"lost card", "exchange"}),
        ("sst2", 60, 9, ("test crème x0 y0 z0 .", "negative"), {"negative", "positive"}),
        ("rte", 60, 8, ('dev a "quoted" x0', "entailment"), {"entailment", "not_entailment"}),
    ],
)
def test_a_public_test_split_is_kept_whole_and_stage_one_reads_training_texts(
    name: str, train: int, test: int, first: tuple[str, str], labels: set[str], shared: Path, tmp_path: Path
) -> None:
    bench = Workbench(tmp_path / "work", Board())
    split = [f"data.reference.split.{part}=12" for part in ("valid", "calibration")]
    more = ["pretrain.teachers=1", "finetune.teachers=1", *split]
    run = bench.run(datasets.recipe_of(name, bench.folder), more, [], ["ingest"])
    rows = read_rows(run.path("data/raw/reference") / "test.parquet")
    assert len(rows) == test
    assert first in set(zip(rows["text"], rows["label"], strict=True))
    assert set(rows["label"]) == labels
    assert ("text_pair" in rows.columns) == (name == "rte")
    texts = read_rows(run.path("data/raw/pretraining") / "unlabelled.parquet")
    assert len(texts) == train
    assert texts["label"].isna().all()
    assert texts["text"].str.startswith("train").all()


def test_without_the_folder_of_public_data_it_is_said_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KD_SHARED_DATA", raising=False)
    with pytest.raises(ParamsError, match="KD_SHARED_DATA"):
        datasets.recipe_of("sst2", tmp_path)
    monkeypatch.setenv("KD_SHARED_DATA", str(tmp_path))
    with pytest.raises(ParamsError, match="sst2: not there"):
        datasets.recipe_of("sst2", tmp_path)
