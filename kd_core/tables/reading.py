"""Reads a table from a file, whatever its kind."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.csv_files import read_csv
from kd_core.tables.formats import known_format
from kd_core.tables.jsonl_files import read_jsonl
from kd_core.tables.parquet_files import read_parquet

_READERS = {"csv": read_csv, "jsonl": read_jsonl, "parquet": read_parquet}


def read_table(path: Path) -> pd.DataFrame:
    """All rows and columns: of a csv file as text, of jsonl as JSON's values, of Parquet with its types.

    Raises InvalidDataError naming the file, and the line where it is known, if it is missing or not of its kind.
    """
    form = known_format(path)
    if not path.is_file():
        raise InvalidDataError(f"{path}: no such file; correct the path")
    return _READERS[form.kind](path, form)
