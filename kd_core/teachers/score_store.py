"""The score store: logits by teacher and text, in immutable shards at a path or URL.

    <url>/<spec key>/spec.json            what the scores depend on, for people
    <url>/<spec key>/<sha256>.parquet     key, logits: a shard, written whole or not at all

A shard is named by its content and hashed when it is read. A damaged one is deleted; its texts are scored again.
Nothing is ever changed in place, so any number of processes may add at once and a killed one leaves whole shards.
"""

from __future__ import annotations

import io
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import sha256

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.runtime.arrays import Booleans
from kd_core.runtime.files import to_json
from kd_core.runtime.storage import Storage
from kd_core.tasks.units import Units
from kd_core.teachers.logit_columns import from_column, to_column
from kd_core.teachers.score_keys import ScoreSpec

Shard = tuple[list[str], Units]

_NAMED_BY_CONTENT = re.compile(r"[0-9a-f]{64}")
"""Earlier releases gave shards random names of 32 digits."""

_LOG = logging.getLogger(__name__)


class ScoreStore:
    """Scores below `url`, a local path or any URL that fsspec knows. What others add later is not seen."""

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self._storage = Storage(url)
        self._indices: dict[str, tuple[pd.Index[str], Units]] = {}

    def lookup(self, spec: ScoreSpec, row_keys: Sequence[str]) -> tuple[Booleans, Units]:
        """Which of the N rows have a score ([N]), and their logits in `spec.labels`' order (no unit where not)."""
        keys, logits = self._index(spec)
        positions = keys.get_indexer(pd.Index(list(row_keys), dtype="object"))
        found = positions >= 0
        places, sizes = positions[found], np.zeros(len(row_keys), dtype=np.int64)
        sizes[found] = logits.sizes[places]
        return found, Units.of_sizes(logits.take(places).values, sizes)

    def add(self, spec: ScoreSpec, row_keys: Sequence[str], logits: Units) -> None:
        """Store one shard: logits of N rows."""
        folder = self._storage / spec.key
        if not folder.exists("spec.json"):
            folder.write("spec.json", to_json(asdict(spec)))
        shard = _pack(row_keys, logits)
        folder.write(f"{sha256(shard).hexdigest()}.parquet", shard)
        if spec.key in self._indices:
            self._indices[spec.key] = _merge([self._indices[spec.key], (list(row_keys), logits)], len(spec.labels))

    def _index(self, spec: ScoreSpec) -> tuple[pd.Index[str], Units]:
        if spec.key not in self._indices:
            folder = self._storage / spec.key
            names = [name for name in folder.list() if name.endswith(".parquet")]
            shards = [shard for name in names if (shard := _read(folder, name, len(spec.labels))) is not None]
            self._indices[spec.key] = _merge(shards, len(spec.labels))
        return self._indices[spec.key]


def _read(folder: Storage, name: str, classes: int) -> Shard | None:
    """A shard; None if it is damaged, and then it is deleted."""
    try:
        data = folder.read(name)
    except FileNotFoundError:  # another process found it damaged
        return None
    stem = name.removesuffix(".parquet")
    sound = not _NAMED_BY_CONTENT.fullmatch(stem) or sha256(data).hexdigest() == stem
    if sound and (shard := _unpack(data, classes)) is not None:
        return shard
    _LOG.warning("%s/%s: damaged shard; it was deleted, its texts are scored again", folder.url, name)
    folder.delete(name)
    return None


def _merge(shards: Sequence[tuple[Sequence[str] | pd.Index[str], Units]], classes: int) -> tuple[pd.Index[str], Units]:
    keys = pd.Index([key for names, _ in shards for key in names], dtype="object")
    none = Units.one_a_row(np.empty((0, classes), np.float32))
    logits = Units.joined([none, *(values for _, values in shards)])
    first = ~keys.duplicated()
    return keys[first], logits.take(first)


def _pack(row_keys: Sequence[str], logits: Units) -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"key": pa.array(row_keys, pa.string()), "logits": to_column(logits)})
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _unpack(data: bytes, classes: int) -> Shard | None:
    try:
        table = pq.read_table(io.BytesIO(data))
        return table["key"].to_pylist(), from_column(table["logits"], classes)
    except (pa.ArrowException, KeyError, ValueError, OSError):
        return None
