"""Which files a source names: wrong, empty and missing ones are told by the key that was typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kd_core.runtime.errors import InvalidDataError, ParamsError
from tests.helpers.checking import check, prepare
from tests.helpers.workspace import files_data, splits, stage, task, texts, write_csv, write_params


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


def test_a_missing_ledger_is_no_reason_to_start_anew(tmp_path: Path) -> None:
    write_params(tmp_path, files_data(str(write_csv(tmp_path / "rows.csv", texts(60)))), ledger="0" * 64)
    with pytest.raises(InvalidDataError, match="ledger of the previous revision is missing"):
        stage(tmp_path, "ingest")


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
