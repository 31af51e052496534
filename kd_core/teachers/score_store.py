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
from numpy.typing import NDArray

from kd_core.runtime.files import to_json
from kd_core.runtime.storage import Storage
from kd_core.teachers.score_keys import ScoreSpec

Logits = NDArray[np.float32]
Shard = tuple[list[str], Logits]

_NAMED_BY_CONTENT = re.compile(r"[0-9a-f]{64}")
"""Earlier releases gave shards random names of 32 digits."""

_LOG = logging.getLogger(__name__)


class ScoreStore:
    """Scores below `url`, a local path or any URL that fsspec knows. What others add later is not seen."""

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self._storage = Storage(url)
        self._indices: dict[str, tuple[pd.Index[str], Logits]] = {}

    def lookup(self, spec: ScoreSpec, row_keys: Sequence[str]) -> tuple[NDArray[np.bool_], Logits]:
        """Which of the N rows have a score ([N]), and their logits in `spec.labels`' order ([N, C]; 0 where not)."""
        keys, logits = self._index(spec)
        positions = keys.get_indexer(pd.Index(list(row_keys), dtype="object"))
        found = positions >= 0
        result = np.zeros((len(row_keys), len(spec.labels)), dtype=np.float32)
        result[found] = logits[positions[found]]
        return found, result

    def add(self, spec: ScoreSpec, row_keys: Sequence[str], logits: Logits) -> None:
        """Store one shard: logits [N, C] of N rows."""
        folder = self._storage / spec.key
        if not folder.exists("spec.json"):
            folder.write("spec.json", to_json(asdict(spec)))
        shard = _pack(row_keys, logits)
        folder.write(f"{sha256(shard).hexdigest()}.parquet", shard)
        if spec.key in self._indices:
            self._indices[spec.key] = _merge([self._indices[spec.key], (list(row_keys), logits)], len(spec.labels))

    def _index(self, spec: ScoreSpec) -> tuple[pd.Index[str], Logits]:
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


def _merge(
    shards: Sequence[tuple[Sequence[str] | pd.Index[str], Logits]], classes: int
) -> tuple[pd.Index[str], Logits]:
    keys = pd.Index([key for names, _ in shards for key in names], dtype="object")
    logits = np.concatenate([np.empty((0, classes), np.float32), *(values for _, values in shards)])
    first = ~keys.duplicated()
    return keys[first], logits[first]


def _pack(row_keys: Sequence[str], logits: Logits) -> bytes:
    flat = pa.array(np.ascontiguousarray(logits, dtype=np.float32).ravel())
    column = pa.FixedSizeListArray.from_arrays(flat, logits.shape[1])
    buffer = io.BytesIO()
    pq.write_table(pa.table({"key": pa.array(row_keys, pa.string()), "logits": column}), buffer, compression="zstd")
    return buffer.getvalue()


def _unpack(data: bytes, classes: int) -> Shard | None:
    try:
        table = pq.read_table(io.BytesIO(data))
        logits = table["logits"].combine_chunks().flatten().to_numpy().reshape(-1, classes)
        return table["key"].to_pylist(), logits
    except (pa.ArrowException, KeyError, ValueError, OSError):
        return None
