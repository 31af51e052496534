"""What validate keeps, keeps apart and writes down of a data set as a whole."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from kd_core.rows import read_rows, write_rows
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError
from tests.helpers.checking import check
from tests.helpers.workspace import files_data, record, splits, stage, task, texts, write_csv, write_params


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
