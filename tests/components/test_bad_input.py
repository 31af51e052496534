"""Ingest and validate on bad input: a clear stop or correct completion, and rejected rows that are not lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from components.base import run
from components.validate import COMPONENT, main
from kd_core.rows import read_rows, write_rows
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError, ParamsError
from tests.helpers.workspace import LABELS, files_data, record, splits, stage, task, texts, write_csv, write_params

Rows = list[tuple[Any, ...]]


def prepare(root: Path, rows: Rows, **more: Any) -> None:
    root.mkdir(exist_ok=True)
    write_params(root, files_data(str(write_csv(root / "rows.csv", rows)), **more))


def check(root: Path, rows: Rows, **more: Any) -> dict[str, Any]:
    prepare(root, rows, **more)
    stage(root, "ingest")
    stage(root, "ingest", "pretraining")
    stage(root, "validate")
    return record(root, "checked")


def without_text(share: float) -> Rows:
    rows = texts(300)
    return [(None if i % round(1 / share) == 0 else text, label) for i, (text, label) in enumerate(rows)]


def test_good_rows_pass_and_twice_is_the_same(tmp_path: Path) -> None:
    first = check(tmp_path / "a", texts(300))
    second = check(tmp_path / "b", texts(300))
    assert first["validation"]["set_aside"] == {}
    assert sum(first["counts"][name] for name in ("train", "valid", "calibration", "test")) == 300
    del first["source"], second["source"]
    assert first == second
    for folder in ("a", "b"):
        (tmp_path / folder / "data" / "checked" / "reference" / "dataset.json").unlink()  # it names the source's path
    for folder in ("data/checked", "validation"):
        assert fingerprint.of_folder(tmp_path / "a" / folder) == fingerprint.of_folder(tmp_path / "b" / folder)


def test_what_texts_call_the_labels_is_on_record(tmp_path: Path) -> None:
    """Where the source knows it: the services of botocore have titles, the labels of a file have none."""
    assert check(tmp_path / "files", texts(300))["label_names"] == {}
    services = ["sns", "sqs"]
    botocore = {"kind": "botocore", "dataset": "operations", "services": services}
    root = tmp_path / "botocore"
    write_params(root, {"source": botocore, "task": task(services)})
    for name, role in (("ingest", "reference"), ("ingest", "pretraining"), ("validate", "reference")):
        stage(root, name, role)
    names = record(root, "checked")["label_names"]
    assert list(names) == services
    assert {"sqs", "amazon sqs", "simple queue"} <= set(names["sqs"])


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


def test_empty_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidDataError, match="no rows"):
        check(tmp_path, [])
    write_params(tmp_path, files_data(str(tmp_path / "nothere.csv")))
    with pytest.raises(InvalidDataError, match=r"nothere\.csv: no such file"):
        stage(tmp_path, "ingest")


def test_an_unknown_params_key_is_named(tmp_path: Path) -> None:
    prepare(tmp_path, texts(30), validation={"tolerence": 0.1})
    with pytest.raises(
        ParamsError, match=r"data\.reference\.validation\.tolerence: unknown key; did you mean 'tolerance'"
    ):
        stage(tmp_path, "ingest")


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


def test_a_shifted_label_distribution_stops_the_run(tmp_path: Path) -> None:
    check(tmp_path / "one", texts(300))
    ledger = (tmp_path / "one" / "data" / "raw" / "reference" / "ledger.parquet").read_bytes()
    sha256 = fingerprint.of_file(tmp_path / "one" / "data" / "raw" / "reference" / "ledger.parquet")
    root = tmp_path / "two"
    store = root / ".kd" / "store" / "ledgers"
    store.mkdir(parents=True)
    (store / f"{sha256}.parquet").write_bytes(ledger)
    rows = [(text, "billing" if i % 5 else label) for i, (text, label) in enumerate(texts(300))]
    data = files_data(str(write_csv(root / "rows.csv", rows)))
    write_params(root, data, revision="2", ledger=sha256)
    stage(root, "ingest")
    stage(root, "ingest", "pretraining")
    with pytest.raises(InvalidDataError, match=r"distribution is 0\.5\d+ away .*\.max_label_shift = 0\.2"):
        stage(root, "validate")
    write_params(root, {**data, "validation": {"max_label_shift": 0.9}}, revision="2", ledger=sha256)
    stage(root, "validate")


def test_a_missing_ledger_is_no_reason_to_start_anew(tmp_path: Path) -> None:
    write_params(tmp_path, files_data(str(write_csv(tmp_path / "rows.csv", texts(60)))), ledger="0" * 64)
    with pytest.raises(InvalidDataError, match="ledger of the previous revision is missing"):
        stage(tmp_path, "ingest")


def test_pretraining_texts_near_reference_evaluation_rows_are_kept_apart(tmp_path: Path) -> None:
    write_params(
        tmp_path,
        files_data(str(write_csv(tmp_path / "rows.csv", texts(300)))),
        {"source": {"kind": "files", "path": str(tmp_path / "plain.csv")}},
    )
    plain = [*[(text,) for text, _ in texts(300)], *[(f"pre{i} tra{i} ining{i}",) for i in range(50)]]
    write_csv(tmp_path / "plain.csv", plain, ("text",))
    stage(tmp_path, "ingest")
    stage(tmp_path, "ingest", "pretraining")
    stage(tmp_path, "validate", "pretraining")
    evaluation = splits(tmp_path)
    hidden = {text for name in ("valid", "calibration", "test") for text in evaluation[name]["text"]}
    kept = set(splits(tmp_path, "checked", "pretraining")["unlabelled"]["text"])
    assert kept == {text for (text,) in plain} - hidden
    summary = record(tmp_path, "checked", "pretraining")["validation"]
    assert summary["faulty_rows"] == 0
    rejected = pd.read_parquet(tmp_path / "validation" / "pretraining" / "rejected.parquet")
    assert len(rejected) == len(hidden)
    assert (
        rejected["reason"].str.contains("near-duplicate of a row in an evaluation split (reference/", regex=False).all()
    )


def test_near_duplicates_across_splits_leave_the_training_side(tmp_path: Path) -> None:
    check(tmp_path, texts(300))
    raw = tmp_path / "data" / "raw" / "reference"
    train, test = read_rows(raw / "train.parquet"), read_rows(raw / "test.parquet")
    planted = test.head(1).assign(id="planted", text=test["text"].iloc[0] + " please")
    write_rows(raw / "train.parquet", pd.concat([train, planted]))
    stage(tmp_path, "validate")
    assert "planted" not in splits(tmp_path, "checked")["train"]["id"].tolist()
    assert record(tmp_path, "checked")["counts"]["test"] == len(test)


def test_data_docs_open_offline_and_carry_no_script(tmp_path: Path) -> None:
    evil = '<script src="http://evil.example/x.js"></script><img src=http://evil.example/y.png onerror=alert(1)>'
    check(tmp_path, [*texts(300), (evil, "parking"), ("fine text", evil)], validation={"tolerance": 0.1})
    pages = sorted((tmp_path / "validation" / "reference").glob("*.html"))
    assert [page.name for page in pages] == ["dataset.html", "index.html", "rows.html"]
    for page in pages:
        markup = page.read_text(encoding="utf-8")
        assert not re.search(r"<(script|link|img|iframe|object|base)\b", markup, re.IGNORECASE)
        assert not re.search(r"<[^>]*\s(src|onerror|onclick|srcset)\s*=", markup, re.IGNORECASE)
        assert not re.search(r"(href|url)\s*[=(]\s*[\"']?(https?:)?//", markup, re.IGNORECASE)
        assert "2026" not in markup
    assert "label outside the set" in pages[1].read_text(encoding="utf-8")
    result = json.loads((tmp_path / "validation" / "reference" / "result.json").read_text())
    assert {check["reason"] for check in result["checks"] if not check["met"]} == {"label outside the set"}


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"task": task([True, False])},
            r"reference.task.labels.0: YAML reads yes, no, .* booleans: write \"yes\"",
        ),
        ({"task": task([0, 1])}, r"data.reference.task.labels.0: a label is text: write \"0\" in quotes"),
        ({"path": {"validation": "x"}}, "data.reference.source.path: no split 'validation'; there are train, valid,"),
        ({"path": 3}, "data.reference.source.path: give a path, a list of paths, or one of these for each split"),
        ({"path": {"train": [1]}}, "data.reference.source.path: give a path, a list of paths"),
        (
            {"source": {"columns": {"label": None}}},
            "source.columns: label: null; only the column of ids",
        ),
        ({"source": {"columns": {"body": "text"}}}, "data.reference.source.columns.body: Input should be"),
    ],
)
def test_wrong_sources_and_labels_are_told_once_by_the_key_that_was_typed(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    values = {"path": "x.csv", **change}
    write_params(tmp_path, files_data(values.pop("path"), **values))
    with pytest.raises(ParamsError) as caught:
        stage(tmp_path, "ingest")
    assert re.search(said, str(caught.value))
    assert not re.search(r"\.files\.|\[key\]|\.str\b|literal\[", str(caught.value))


def test_lists_and_globs_of_files_are_read(tmp_path: Path) -> None:
    rows = texts(300)
    paths = [str(write_csv(tmp_path / f"part-{part}.csv", rows[part * 100 : part * 100 + 100])) for part in range(3)]
    for path in (paths, str(tmp_path / "part-*.csv"), {"train": paths[:2], "test": str(tmp_path / "part-2*")}):
        write_params(tmp_path, files_data(path))
        stage(tmp_path, "ingest")
        found = splits(tmp_path)
        assert {text for frame in found.values() for text in frame["text"]} == {text for text, _ in rows}
