"""Ingest and validate on bad input: a clear stop or correct completion, and rejected rows that are not lost."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.base import run
from components.validate import COMPONENT, main
from kd_core.runtime.errors import InvalidDataError
from tests.helpers.checking import check, prepare, without_text
from tests.helpers.workspace import LABELS, files_data, record, splits, stage, task, texts, write_csv, write_params


def test_five_percent_null_texts_stop_at_one_percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_STATE", str(tmp_path / "state"))
    with pytest.raises(InvalidDataError) as caught:
        check(tmp_path / "w", without_text(0.05))
    message = str(caught.value)
    assert "15 of 300 rows (5.0%) are faulty" in message
    assert "data.reference.validation.tolerance = 1.0%" in message
    assert "15 × text missing" in message
    assert re.search(r"(train|valid|calibration|test) row \d+ \(id [\w-]+\): text missing", message)
    assert "correct these rows at the source, or raise the tolerance" in message
    survivor = Path(re.search(r"all rows set aside: (\S+)", message)[1])  # type: ignore[index]
    assert survivor == tmp_path / "state" / "rejected.parquet"
    rejected = pd.read_parquet(survivor)
    assert len(rejected) == 15
    assert set(rejected["reason"]) == {"text missing"}
    raw = splits(tmp_path / "w")
    assert all(raw[row.split]["id"][row.row] == row.id for row in rejected.itertuples())
    assert (tmp_path / "state" / "index.html").is_file()
    assert not (tmp_path / "w" / "data" / "checked" / "reference" / "dataset.json").exists()


def test_five_percent_null_texts_pass_at_ten_percent(tmp_path: Path) -> None:
    checked = check(tmp_path, without_text(0.05), validation={"tolerance": 0.1})
    assert checked["validation"]["set_aside"] == {"text missing": 15}
    assert sum(checked["counts"][name] for name in ("train", "valid", "calibration", "test")) == 285
    assert splits(tmp_path, "checked")["train"]["text"].notna().all()
    assert len(pd.read_parquet(tmp_path / "validation" / "reference" / "rejected.parquet")) == 15


def test_the_process_ends_with_65(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    prepare(tmp_path, without_text(0.05))
    stage(tmp_path, "ingest")
    stage(tmp_path, "ingest", "pretraining")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as caught:
        run(COMPONENT, main, ["reference"])
    assert caught.value.code == 65
    assert "15 × text missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (("", "billing"), "text missing"),
        (("   ", "billing"), "text empty"),
        (("unknown label here", "parking"), "label outside the set"),
        (("word " * 100_000, "billing"), "text longer than 20000 characters"),
    ],
)
def test_one_bad_row_is_set_aside_with_its_reason(tmp_path: Path, bad: tuple[str, str], reason: str) -> None:
    checked = check(tmp_path, [*texts(300), bad])
    assert checked["validation"]["set_aside"] == {reason: 1}
    rejected = pd.read_parquet(tmp_path / "validation" / "reference" / "rejected.parquet")
    assert rejected["reason"].tolist() == [reason]
    assert rejected["text"].str.len().fillna(0).max() <= 200


def test_labels_outside_the_set_are_listed(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"label outside the set\nunknown labels: 'parking', 'weather'"):
        check(tmp_path, [*texts(200), *[(f"p{i} q{i} r{i}", "parking" if i % 2 else "weather") for i in range(20)]])


def test_one_class_only(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"has one class only: there 'billing'; missing 'delivery', 'returns'"):
        check(tmp_path, [(text, "billing") for text, _ in texts(200)])


def test_a_class_without_rows(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match=r"lacks 1 of 4 classes: .*missing 'fraud'"):
        check(tmp_path, texts(200), task=task([*LABELS, "fraud"]))


@pytest.mark.parametrize("column", ["id", "number"])
def test_ids_used_twice_name_their_column(tmp_path: Path, column: str) -> None:
    rows = [(f"i{n}", text, label) for n, (text, label) in enumerate(texts(300))]
    rows[7] = ("i6", *rows[7][1:])
    data = files_data(str(write_csv(tmp_path / "x.csv", rows, (column, "text", "label"))))
    data["source"] |= {"columns": {"id": column}} if column != "id" else {}
    write_params(tmp_path, data)
    stage(tmp_path, "ingest")
    stage(tmp_path, "ingest", "pretraining")
    stage(tmp_path, "validate")
    reason = f"id (column {column!r}) used more than once"
    assert record(tmp_path, "checked")["validation"]["set_aside"] == {reason: 2}
    write_params(tmp_path, data | {"validation": {"tolerance": 0.0}})
    with pytest.raises(InvalidDataError) as caught:
        stage(tmp_path, "validate")
    assert f"2 × {reason}" in str(caught.value)
    assert "where the column holds no ids: data.reference.source.columns.id: null" in str(caught.value)


def test_emoji_and_right_to_left_text_survive(tmp_path: Path) -> None:
    special = [
        "👩‍🚀🎉 لقد وصل الطرد متأخرا جدا",
        "שלום, איפה החבילה שלי?",
        "日本語のテキスト です ね",
        "‮reversed‬ \u200f x",
    ]
    check(tmp_path, [*texts(300), *[(text, "delivery") for text in special]])
    stored = {text for frame in splits(tmp_path, "checked").values() for text in frame["text"]}
    assert set(special) <= stored


def test_pairs_are_checked_on_both_texts(tmp_path: Path) -> None:
    rows = [(text, f"{text} answer{i}", label) for i, (text, label) in enumerate(texts(300))]
    rows[3] = (rows[3][0], None, rows[3][2])
    path = write_csv(tmp_path / "x.csv", rows, ("text", "text_pair", "label"))
    write_params(tmp_path, files_data(str(path), task=task(pair=True)), files_data(str(path), task=None))
    stage(tmp_path, "ingest")
    stage(tmp_path, "ingest", "pretraining")
    stage(tmp_path, "validate")
    assert record(tmp_path, "checked")["validation"]["set_aside"] == {"text_pair missing": 1}


def test_texts_with_contradicting_labels_are_counted(tmp_path: Path) -> None:
    rows = [*texts(300), ("one and the same", "billing"), ("one and the same", "returns"), ("twice alike", "billing")]
    found = check(tmp_path, [*rows, ("twice alike", "billing")])
    example = {"text": "one and the same", "labels": ["billing", "returns"]}
    assert found["contradictions"] == {"texts": 1, "rows": 2, "example": example}
    assert "1 texts have rows with different labels (2 rows), for instance 'one and the same': billing, returns" in str(
        found["notes"]
    )
