"""Class names in Parquet files: each file has its own list, `datasets` reads all files by that of the first.

Where two lists differ, class numbers of one file get names of another: such a data set is refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.runtime.errors import InvalidDataError, TryAgainError

_SHOWN = 6


def check_class_names(files: Sequence[str], column: str, names: Sequence[str], where: str) -> None:
    """Raises InvalidDataError naming the first of `files` whose own names of `column` are not `names`, in this order.

    A file that says nothing, or whose column holds no classes, is believed. `where` is the data set's name.
    """
    for file in files:
        own = _own_names(file, column)
        if own is not None and list(own) != list(names):
            raise InvalidDataError(
                f"{where}: {file} numbers the classes of {column!r} as {_shown(own)}, the data set as {_shown(names)}, "
                "so that labels would get wrong names; store all splits with one order of names, or the names as text"
            )


def parquet_files(builder: Any, split: str) -> Iterator[str]:
    """The Parquet files, paths or URLs, that a builder of `datasets` reads for a split, slices and sums included."""
    named = set(re.split(r"[+\[]", split))
    for name, files in (builder.config.data_files or {}).items():
        if str(name) in named or "all" in named:
            yield from (str(file) for file in files if str(file).endswith(".parquet"))


def _own_names(file: str, column: str) -> Sequence[str] | None:
    try:
        with fsspec.open(file) as opened:
            metadata = pq.read_schema(opened).metadata or {}
    except pa.ArrowException as error:
        raise InvalidDataError(f"{file}: not a readable Parquet file: {error}; write it again") from None
    except OSError as error:
        raise TryAgainError(f"{file}: cannot be read ({error}); check the network, then run again") from None
    try:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"][column]
    except (KeyError, TypeError, ValueError):
        return None
    feature = feature.get("feature", feature) if isinstance(feature, dict) else feature
    names = feature.get("names") if isinstance(feature, dict) else None
    return names if isinstance(names, list) else None


def _shown(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
