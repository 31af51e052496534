"""Table files: what is read, what is refused with its line, and rows that come back as they were written."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kd_core.data.sources.files import read_files
from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.listing import choose, expand, list_folder
from kd_core.tables.reading import read_table
from kd_core.tables.writing import writable, write_table
from tests.helpers.workspace import row_form

TEXTS = ["a\rb", "c\nd", "e\r\nf", 'g "h", i', "tab\there", " space ", "\r", "NA", "שלום 🙂", None]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz", ".jsonl", ".ndjson.gz", ".parquet", ".CSV", ".Parquet"])
def test_rows_come_back_as_they_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    write_table(path, pd.DataFrame({"text": TEXTS, "id": [str(n) for n in range(len(TEXTS))]}))
    found = read_table(path)
    assert [None if pd.isna(cell) else cell for cell in found["text"]] == TEXTS
    assert found["id"].tolist() == [str(n) for n in range(len(TEXTS))]
    first = path.read_bytes()
    write_table(path, found)
    assert path.read_bytes() == first


@pytest.mark.parametrize("columns", [["text"], ["text", "id"]])
def test_pandas_and_python_s_csv_read_as_many_rows_as_were_written(tmp_path: Path, columns: list[str]) -> None:
    path = tmp_path / "x.csv"
    write_table(path, pd.DataFrame(dict.fromkeys(columns, TEXTS)))
    there = ["" if text is None else text for text in TEXTS]
    assert pd.read_csv(path, keep_default_na=False)["text"].tolist() == there
    with path.open(newline="", encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)] == ["text", *there]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("text,id\na,1,\n", "line 2 has 3 cells ('a', '1', ''), the header has 2 ('text', 'id')"),
        ("text,id\na,1\n\nb\n", "line 4 has 1 cells ('b'), the header has 2 ('text', 'id')"),
        ("text,id,text\na,1,b\n", "the header names 'text' more than once; rename"),
        ("text,,\na,1,2\n", "the header names '' more than once; rename"),
        ('text\n"a" b\n', "line 2: not valid csv"),
        ("", "empty file; it needs a header line and rows"),
    ],
)
def test_a_wrong_csv_file_is_refused_alike_in_training_and_prediction(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text(content)
    for read in (read_table, lambda path: read_files({None: [path]}, row_form(labelled=False))):
        with pytest.raises(InvalidDataError) as caught:
            read(path)
        assert f"{path}: {said}" in str(caught.value)


def test_commas_that_a_spreadsheet_leaves_at_the_end_are_no_columns(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,id,,\na,1,,\n")
    assert list(read_table(tmp_path / "x.csv").columns) == ["text", "id"]


@pytest.mark.parametrize(
    ("line", "said"), [('{"text": "a", "text": "b"}', "line 1: names 'text' more than once"), ("[1]", "line 1: a JSON")]
)
def test_a_wrong_jsonl_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "x.jsonl").write_text(line)
    with pytest.raises(InvalidDataError, match=said):
        read_table(tmp_path / "x.jsonl")


def test_damaged_gzip_and_parquet_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"text\na\n")[:-4])
    with pytest.raises(InvalidDataError, match=r"x\.csv\.gz: not a whole gzip file"):
        read_table(tmp_path / "x.csv.gz")
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(InvalidDataError, match=r"x\.parquet: not a readable Parquet file"):
        read_table(tmp_path / "x.parquet")


def test_what_a_kind_of_file_cannot_hold_is_known_before_anything_is_written(tmp_path: Path) -> None:
    mixed = pd.DataFrame({"n": ["a", 1]}, dtype=object)
    with pytest.raises(InvalidDataError, match=r"x\.parquet: column 'n' holds values of several types .*\(int, str"):
        writable(tmp_path / "x.parquet", mixed)
    with pytest.raises(InvalidDataError, match=r"column 'n' .* too large"):
        writable(tmp_path / "x.parquet", pd.DataFrame({"n": [2**70]}, dtype=object))
    with pytest.raises(InvalidDataError, match=r"x\.jsonl: column 'n' holds bytes that are not UTF-8"):
        writable(tmp_path / "x.jsonl", pd.DataFrame({"n": [b"\xff"]}, dtype=object))
    write_table(tmp_path / "x.jsonl", mixed)
    assert read_table(tmp_path / "x.jsonl")["n"].tolist() == ["a", 1]


def test_lists_and_objects_stand_in_a_csv_file_as_json(tmp_path: Path) -> None:
    write_table(tmp_path / "x.csv", pd.DataFrame({"n": [["a", "é"], {"a": None}]}, dtype=object))
    assert [json.loads(cell) for cell in read_table(tmp_path / "x.csv")["n"]] == [["a", "é"], {"a": None}]


def test_a_folder_leaves_nothing_out_without_a_word(tmp_path: Path) -> None:
    for name in ("part-0.csv", "b/part-1.NDJSON.gz", ".ipynb_checkpoints/part-0.csv", "_old.csv", "_SUCCESS", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        data = b'{"text": "two"}\n' if "NDJSON" in name else b"text\none\n"
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    listing = list_folder(tmp_path)
    assert listing.files == ("b/part-1.NDJSON.gz", "part-0.csv")
    assert listing.left_out == (".ipynb_checkpoints/part-0.csv", "README", "_SUCCESS", "_old.csv")
    rows, notes = read_files({None: [tmp_path]}, row_form(labelled=False))
    assert rows["text"].tolist() == ["two", "one"]
    assert notes == [f"files of {tmp_path.name}: 4 left out: {', '.join(listing.left_out)}"]
    assert expand(tmp_path / "**/part-*").files == (str(tmp_path / "b/part-1.NDJSON.gz"), str(tmp_path / "part-0.csv"))
    assert expand(tmp_path / "*.csv").left_out == (str(tmp_path / "_old.csv"),)


@pytest.mark.parametrize("name", ["a.csv.zip", "a.jsonl.zst", "a.parquet.gz", "b/A.CSV.BZ2"])
def test_tables_in_other_compressions_are_refused(name: str) -> None:
    with pytest.raises(InvalidDataError, match=f"here: {name} is compressed in a way that is not read; unpack it"):
        choose([name, "part.csv"], "here")


def test_a_folder_or_glob_without_tables_names_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "rows.xlsx").touch()
    for read, path in ((list_folder, tmp_path), (expand, tmp_path / "*.xlsx"), (expand, tmp_path / "*.csv")):
        with pytest.raises(InvalidDataError, match=r"rows\.xlsx|nothing there"):
            read(path)


def read(paths: dict[Any, list[Path]], **columns: Any) -> tuple[pd.DataFrame, list[str]]:
    return read_files(paths, row_form(columns))


def csv_file(path: Path, first: int, count: int) -> Path:
    lines = [f"text {first + n},{n},a" for n in range(count)]
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(["text,number,label", *lines]))
    return path


def test_ids_that_are_counted_anew_in_each_file_get_its_name(tmp_path: Path) -> None:
    train, test = csv_file(tmp_path / "train.csv", 0, 3), csv_file(tmp_path / "test.csv", 9, 2)
    rows, (note,) = read({"train": [train], "test": [test]}, id="number")
    assert rows["id"].tolist() == ["train.csv/0", "train.csv/1", "train.csv/2", "test.csv/0", "test.csv/1"]
    assert "column 'number'" in note
    assert "'0' in train.csv and in test.csv" in note
    assert read({"train": [train]}, id="number")[0]["id"].tolist() == ["0", "1", "2"], "one file's stay as they are"
    rows, notes = read({"train": [train], "test": [test]}, id=None)
    assert (rows["id"].str.len() == 16).all()
    assert notes == []


def test_files_of_one_name_are_told_apart(tmp_path: Path) -> None:
    files = [csv_file(tmp_path / folder / "rows.csv", first, 1) for folder, first in (("a", 0), ("b", 1), ("c", 2))]
    rows, _ = read({"train": files[:2], "test": files[2:]}, id="number")
    assert rows["id"].tolist() == ["train/rows.csv/0", "train/rows.csv-2/0", "test/rows.csv/0"]


def test_the_same_file_for_training_and_test_is_refused(tmp_path: Path) -> None:
    file = csv_file(tmp_path / "x.csv", 0, 3)
    with pytest.raises(InvalidDataError, match=r"source\.path: train and test are the same file .*x\.csv"):
        read({"train": [file], "test": [file]})
    _, notes = read({"train": [file], "unlabelled": [file]}, id=None)
    assert notes == ["x.csv holds the same rows as x.csv: each of them counts twice"]


def test_empty_shards_hold_no_rows(tmp_path: Path) -> None:
    (tmp_path / "0.jsonl").write_text("\n")
    (tmp_path / "1.csv").write_text("text,label\n")
    (tmp_path / "2.jsonl").write_text('{"text": "one", "label": "a"}\n')
    assert read({None: [tmp_path]})[0]["text"].tolist() == ["one"]
