"""What every type of cell is as text: the same in training, from Hugging Face and in `kd predict`."""

from __future__ import annotations

import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_core.data.sources.columns import to_rows
from kd_core.data.sources.files import read_files
from kd_core.data.sources.huggingface import _table
from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.cells import texts_of
from kd_core.tables.reading import read_table
from tests.helpers.workspace import row_form

NOON = datetime.datetime(2024, 5, 6, 12, 0, 1)
DURATION = pa.array([datetime.timedelta(1)])

BEHAVIOUR: list[tuple[str, pa.Array, Any]] = [
    ("text is taken as it is", pa.array([" a\r\nb "]), " a\r\nb "),
    ("long text too", pa.array(["a"], pa.large_string()), "a"),
    ("text views too", pa.array(["a"], pa.string_view()), "a"),
    ("dictionary-encoded text is its text", pa.array(["a"]).dictionary_encode(), "a"),
    ("dictionary-encoded numbers are their text", pa.array([7]).dictionary_encode(), "7"),
    ("whole numbers are their digits", pa.array([-7]), "-7"),
    ("unsigned ones too", pa.array([2**64 - 1], pa.uint64()), "18446744073709551615"),
    ("floating-point numbers are the shortest decimals", pa.array([0.1]), "0.1"),
    ("and so are those of 32 bits", pa.array([0.1], pa.float32()), "0.1"),
    ("a whole one keeps its point", pa.array([1.0]), "1.0"),
    ("decimal numbers keep their places, without an exponent", pa.array([Decimal("1.50")]), "1.50"),
    ("booleans are as JSON writes them", pa.array([True]), "true"),
    ("times are ISO 8601", pa.array([NOON]), "2024-05-06T12:00:01"),
    ("with nanoseconds", pa.array([1], pa.timestamp("ns")), "1970-01-01T00:00:00.000000001"),
    ("with their zone", pa.array([NOON], pa.timestamp("s", "UTC")), "2024-05-06T12:00:01+00:00"),
    ("dates too", pa.array([NOON.date()]), "2024-05-06"),
    ("bytes are read as UTF-8", pa.array(["é".encode()]), "é"),
    ("bytes of a fixed width too", pa.array([b"ab"], pa.binary(2)), "ab"),
    ("null is no text", pa.array([None], pa.string()), None),
    ("nothing but nulls neither", pa.nulls(1), None),
    ("nor is not-a-number", pa.array([float("nan")]), None),
]

REFUSED: list[tuple[str, pa.Array, str]] = [
    ("bytes that are not UTF-8", pa.array([b"\xff"]), r"row 1: bytes that are not UTF-8 \(the column's type is binary"),
    ("lists", pa.array([["a"]]), r"row 1: a list \(the column's type is list<"),
    ("objects", pa.array([{"a": 1}]), r"row 1: an object \(the column's type is struct<"),
    ("maps", pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())), r"row 1: an object \(the column's type is map<"),
    ("durations", DURATION, r"row 1: a timedelta \(the column's type is duration"),
]

NAMES = [words for words, _, _ in BEHAVIOUR]


def parquet(folder: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), folder / "x.parquet")
    return folder / "x.parquet"


def trained_on(path: Path) -> pd.DataFrame:
    return read_files({None: [path]}, row_form())[0]


@pytest.mark.parametrize(("words", "cells", "text"), BEHAVIOUR, ids=NAMES)
def test_cells_are_one_text_in_training_and_in_prediction(
    tmp_path: Path, words: str, cells: pa.Array, text: Any
) -> None:
    path = parquet(tmp_path, text=cells, label=pa.array(["a"]))
    assert trained_on(path)["text"].tolist() == [text]
    assert texts_of(read_table(path)["text"], "here") == [text]
    path = parquet(tmp_path, text=pa.array(["a"]), label=cells)
    assert trained_on(path)["label"].tolist() == [text]


@pytest.mark.parametrize(("words", "cells", "said"), REFUSED, ids=[words for words, _, _ in REFUSED])
def test_other_cells_are_refused_with_the_column_s_type(tmp_path: Path, words: str, cells: pa.Array, said: str) -> None:
    path = parquet(tmp_path, text=cells, label=pa.array(["a"]))
    with pytest.raises(InvalidDataError, match=rf"x\.parquet: column 'text', {said}.*not text; give one text a row"):
        trained_on(path)
    with pytest.raises(InvalidDataError, match=said):
        texts_of(read_table(path)["text"], "here")
    path = parquet(tmp_path, text=pa.array(["a"]), label=cells)
    with pytest.raises(InvalidDataError, match=rf"column 'label', {said}.*kind multi_label_classification"):
        trained_on(path)


@pytest.mark.parametrize(
    ("value", "cell", "text"),
    [
        (datasets.Value("string"), "a", "a"),
        (datasets.Value("int64"), 7, "7"),
        (datasets.Value("float32"), 0.5, "0.5"),
        (datasets.Value("bool"), False, "false"),
        (datasets.Value("binary"), "é".encode(), "é"),
        (datasets.Value("timestamp[s]"), NOON, "2024-05-06T12:00:01"),
        (datasets.ClassLabel(names=["no", "yes"]), 1, "yes"),
        (datasets.ClassLabel(names=["no", "yes"]), -1, None),
    ],
)
def test_cells_of_hugging_face_are_the_same(value: Any, cell: Any, text: Any) -> None:
    data = datasets.Dataset.from_dict(
        {"text": ["a"], "label": [cell]}, datasets.Features(text=datasets.Value("string"), label=value)
    )
    rows = to_rows(_table(data, ["text", "label"], "label"), row_form(), "set")
    assert rows["label"].tolist() == [text]


@pytest.mark.parametrize("cell", [["a"], {"a": "b"}, b"\xff"])
def test_what_is_no_text_is_refused_from_hugging_face_too(cell: Any) -> None:
    data = datasets.Dataset.from_dict({"text": [cell], "label": ["a"]})
    with pytest.raises(InvalidDataError, match=r"set: column 'text', row 1: .*, not text"):
        to_rows(_table(data, ["text", "label"], "label"), row_form(), "set")


def test_values_of_json_are_texts_as_json_writes_them(tmp_path: Path) -> None:
    lines = ['{"text": "a"}', '{"text": 1}', '{"text": 1.5}', '{"text": true}', '{"text": null}', '{"text": NaN}', "{}"]
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    assert texts_of(read_table(tmp_path / "x.jsonl")["text"], "x") == ["a", "1", "1.5", "true", None, None, None]
    (tmp_path / "x.jsonl").write_text('{"text": "a"}\n{"text": ["why"]}\n')
    with pytest.raises(InvalidDataError, match="x, row 2: a list, not text"):
        texts_of(read_table(tmp_path / "x.jsonl")["text"], "x")


def test_lists_of_labels_hold_any_of_these_but_no_lists(tmp_path: Path) -> None:
    def labels(cells: pa.Array) -> Any:
        path = parquet(tmp_path, text=pa.array(["a"]), label=cells)
        return read_files({None: [path]}, row_form(separator="|"))[0]["label"][0]

    assert labels(pa.array([["b", "a", "b"]])) == ("a", "b")
    assert labels(pa.array([[2, 1]])) == ("1", "2")
    assert labels(pa.array([[b"a"]])) == ("a",)
    assert labels(pa.array(["b|a"]).dictionary_encode()) == ("a", "b")
    assert labels(pa.array([[]], pa.list_(pa.string()))) == ()
    for wrong, said in (
        ([["a"]], "list, row 1: a list"),
        ([{"a": 1}], "list, row 1: an object"),
        ({"a": 1}, "row 1.*an object"),
    ):
        with pytest.raises(InvalidDataError, match=f"column 'label', row 1.*{said}, not text; give a list of labels"):
            labels(pa.array([wrong]))


def test_numpy_s_numbers_are_numbers() -> None:
    frame = pd.DataFrame({"a": np.array([0.1], np.float32), "b": np.array([3], np.int8)})
    assert [texts_of(frame[name], "x") for name in frame] == [["0.1"], ["3"]]
