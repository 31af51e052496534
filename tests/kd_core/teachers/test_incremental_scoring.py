"""What is scored again after a change, counted in forward passes through the scoring stage: only what must be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from components import score_reference as stage
from components.base import Context
from kd_core.config.teachers import TeacherParams
from kd_core.rows import write_rows
from kd_core.teachers.model import prepare, save_teacher
from kd_core.teachers.precision import SAMPLE
from tests.helpers.distilling import TASK
from tests.helpers.tiny import count_texts, tiny_rows, tiny_teacher

ROWS = {"train": 100, "valid": 40, "unlabelled": 160}
TOTAL = sum(ROWS.values())


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Texts that each teacher was asked about."""
    return count_texts(monkeypatch)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passes: Counter[str]) -> Path:
    """A workspace in which teachers a and b have scored the reference set."""
    monkeypatch.setenv("KD_STORE_URI", str(tmp_path / "store"))
    (tmp_path / "params.yaml").write_text("resolved: {versions: {training: x}}\n")
    for seed, (split, count) in enumerate(ROWS.items()):
        write_split(tmp_path, split, distinct(count, seed))
    for seed, name in enumerate("ab"):
        tiny_teacher(tmp_path / "teachers" / name, name=name, seed=seed, steps=2)
    assert scored(tmp_path, passes) == {"a": TOTAL, "b": TOTAL}
    return tmp_path


def distinct(count: int, seed: int) -> pd.DataFrame:
    rows = tiny_rows(count, seed=seed)
    return rows.assign(text=[f"{text} {seed} x{index}" for index, text in enumerate(rows["text"])])


def path(root: Path, split: str) -> Path:
    return root / "data/checked/reference" / f"{split}.parquet"


def write_split(root: Path, split: str, rows: pd.DataFrame) -> None:
    write_rows(path(root, split), rows)


def scored(root: Path, passes: Counter[str]) -> dict[str, int]:
    """Score with both teachers; the texts that each was asked about for it."""
    passes.clear()
    for name in ("a", "b"):
        context = Context(stage.COMPONENT, {"teacher": name}, root)
        stage.main(context)
        context.check_outputs()
    return dict(passes)


def test_nothing_changed_nothing_is_scored(root: Path, passes: Counter[str]) -> None:
    assert scored(root, passes) == {}


def test_one_percent_of_the_rows_changed(root: Path, passes: Counter[str]) -> None:
    rows = pd.read_parquet(path(root, "unlabelled"))
    rows.loc[[3, 50, 99], "text"] = ["one new text", "another new text", "a third new text"]
    write_split(root, "unlabelled", rows.sample(frac=1.0, random_state=0))
    assert scored(root, passes) == {"a": 3, "b": 3}


def test_what_bf16_costs_is_asked_once_too(root: Path, passes: Counter[str]) -> None:
    """Beside its scores a bf16 teacher gives some answers in fp32; both are stored, and a second run asks nobody."""
    tiny_teacher(root / "teachers" / "b", name="b", seed=9, steps=2, precision="bf16")
    assert scored(root, passes) == {"b": TOTAL + SAMPLE}
    record = json.loads((root / "scores/reference/b/scores.json").read_text())
    assert record["bf16_difference"]["rows"] == SAMPLE
    assert 0 < record["bf16_difference"]["largest"] < 0.1
    assert scored(root, passes) == {}
    rows = pd.read_parquet(path(root, "train"))
    rows.loc[[3, 50, 99], "text"] = ["one new text", "another new text", "a third new text"]
    write_split(root, "train", rows)
    assert scored(root, passes)["b"] <= 3 + 3, "as many are drawn anew as have changed, at most"


def test_a_row_that_moves_to_another_split_is_not_scored_again(root: Path, passes: Counter[str]) -> None:
    train, unlabelled = (pd.read_parquet(path(root, split)) for split in ("train", "unlabelled"))
    write_split(root, "train", train.iloc[10:])
    write_split(root, "unlabelled", pd.concat([unlabelled, train.iloc[:10].assign(label=None)]))
    assert scored(root, passes) == {}


def test_one_teacher_changed(root: Path, passes: Counter[str]) -> None:
    tiny_teacher(root / "teachers" / "b", name="b", seed=9, steps=2)
    assert scored(root, passes) == {"b": TOTAL}


def test_one_label_map_changed(root: Path, passes: Counter[str]) -> None:
    """The same weights, read with another meaning of their outputs: the old scores must not be met."""
    first, second, third = TASK.labels
    folder = root / "teachers" / "a"
    mapping = {first: second, second: first, third: third}
    params = TeacherParams.model_validate({"weights": "none", "labels": mapping})
    save_teacher(prepare("a", params, TASK, folder), folder, {})
    assert scored(root, passes) == {"a": TOTAL}


def test_the_former_teacher_s_scores_are_still_there(root: Path, passes: Counter[str], tmp_path: Path) -> None:
    before = {file.name: file.read_bytes() for file in (root / "teachers" / "b").iterdir()}
    tiny_teacher(root / "teachers" / "b", name="b", seed=9, steps=2)
    assert scored(root, passes) == {"b": TOTAL}
    for name, content in before.items():
        (root / "teachers" / "b" / name).write_bytes(content)
    assert scored(root, passes) == {}
