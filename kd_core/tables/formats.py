"""Kinds of table files, told by their names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from kd_core.runtime.errors import InvalidDataError

GZIP = ".gz"
COMPRESSED = (".bz2", ".xz", ".zst", ".zip", ".7z", ".lz4", ".snappy")
"""Compressions that are not read."""
READABLE = "csv, tsv, jsonl or ndjson (each also with .gz), or parquet"
"""What a person may give, for messages."""


@dataclass(frozen=True)
class Format:
    """How the rows of a file are written."""

    kind: Literal["csv", "jsonl", "parquet"]
    delimiter: str = ","
    """Between the cells of a csv file's row."""
    gzipped: bool = False


_BY_SUFFIX = {
    ".csv": Format("csv"),
    ".tsv": Format("csv", delimiter="\t"),
    ".jsonl": Format("jsonl"),
    ".ndjson": Format("jsonl"),
    ".parquet": Format("parquet"),
}


def format_of(path: PurePath) -> Format | None:
    """The format that the name tells, upper or lower case; None if it tells none that is read."""
    name = path.name.lower()
    gzipped = name.endswith(GZIP)
    found = _BY_SUFFIX.get(PurePath(name.removesuffix(GZIP)).suffix)
    if not gzipped or found is None:
        return found
    return None if found.kind == "parquet" else Format(found.kind, found.delimiter, gzipped=True)


def known_format(path: PurePath) -> Format:
    """As `format_of`. Raises InvalidDataError for a name that tells no format."""
    found = format_of(path)
    if found is None:
        raise InvalidDataError(f"{path}: unknown kind of file; give {READABLE}")
    return found


def holds_compressed_rows(path: PurePath) -> bool:
    """Whether the name says that it is a table in a compression that is not read, such as rows.csv.zip."""
    inner = PurePath(path.name.lower())
    packed = inner.suffix in COMPRESSED or (inner.suffix == GZIP and format_of(path) is None)
    return packed and PurePath(inner.stem).suffix in _BY_SUFFIX
