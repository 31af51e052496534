"""Rows on disk: fixed schema, stable bytes, errors that name the file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from kd_core.rows import read_rows, rows_hash, write_rows
from kd_core.runtime.errors import InvalidDataError

FRAME = pd.DataFrame(
    {"id": ["b", "a"], "group": ["g", "g"], "text": ["שלום 🎉", None], "label": [None, "x"]}, dtype=object
)


def test_round_trip_sorts_by_id_and_keeps_nulls(tmp_path: Path) -> None:
    write_rows(tmp_path / "x.parquet", FRAME)
    found = read_rows(tmp_path / "x.parquet")
    assert found.to_numpy().tolist() == [["a", "g", None, "x"], ["b", "g", "שלום 🎉", None]]
    write_rows(tmp_path / "y.parquet", FRAME.iloc[::-1])
    assert (tmp_path / "x.parquet").read_bytes() == (tmp_path / "y.parquet").read_bytes()


def test_an_empty_split_keeps_its_columns(tmp_path: Path) -> None:
    write_rows(tmp_path / "x.parquet", FRAME.head(0).assign(text_pair=None))
    assert list(read_rows(tmp_path / "x.parquet").columns) == ["id", "group", "text", "text_pair", "label"]


def test_hash_knows_no_order_but_every_cell() -> None:
    assert rows_hash(FRAME) == rows_hash(FRAME.iloc[::-1])
    assert rows_hash(FRAME) == rows_hash(FRAME.assign(group="other"))
    assert rows_hash(FRAME) != rows_hash(FRAME.assign(label="x"))
    assert rows_hash(FRAME) != rows_hash(FRAME.assign(text=["שלום 🎉", ""]))
    assert rows_hash(FRAME) != rows_hash(FRAME.head(1))


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    with pytest.raises(InvalidDataError, match=r"x\.parquet: missing"):
        read_rows(path)
    path.write_bytes(b"PAR1 cut short")
    with pytest.raises(InvalidDataError, match=r"x\.parquet: not a readable Parquet file"):
        read_rows(path)
    FRAME.drop(columns="group").to_parquet(path)
    with pytest.raises(InvalidDataError, match=r"x\.parquet: no column 'group' \(there: id, text, label\)"):
        read_rows(path)
    FRAME.assign(text=1.5).to_parquet(path)
    with pytest.raises(InvalidDataError, match=r"x\.parquet: column 'text' holds double"):
        read_rows(path)
    FRAME.assign(id=["a", None]).to_parquet(path)
    with pytest.raises(InvalidDataError, match=r"x\.parquet: column 'id' has empty cells"):
        read_rows(path)
