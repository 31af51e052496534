"""The prediction log: answers with exit layer and certainty, to detect drift; no texts.

It is a folder of Parquet files. Each process writes its own files, and each file is complete at every moment. So any
number of processes and hosts may share a folder, and files may be read, or old ones deleted, at any time. Columns: time
(UTC), exit_layer, entropy, labels (one or more), thresholds (those of the early exits in that request).
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import pandas as pd
import pyarrow as pa

from kd_core.rows import write_table
from kd_core.runtime.errors import ParamsError, TryAgainError

MODEL = b"kd.model"
"""Key in a file's metadata of the identity of the model that answered."""

MOST_ROWS = 50_000
MOST_BYTES = 16 * 1024 * 1024
"""A file is finished at either limit. This one holds in memory; on disk a file is several times smaller."""
WRITE_SECONDS = 5.0
"""A request writes the answers if the last write is at least this long ago; the rest is written at the end."""

SCHEMA = pa.schema(
    {
        "time": pa.timestamp("ms", tz="UTC"),
        "exit_layer": pa.int16(),
        "entropy": pa.float32(),
        "labels": pa.list_(pa.string()),
        "thresholds": pa.list_(pa.float64()),
    }
)

_LOGGER = logging.getLogger(__name__)


class PredictionLog:
    """One process's part of a log. Threads may share it; after a fork each process has its own.

    :param folder: created if it is missing
    :param model: identity of the model whose answers are logged
    :raises ParamsError: the folder cannot be written to
    """

    def __init__(self, folder: Path, model: str) -> None:
        self._folder = folder
        self._schema = SCHEMA.with_metadata({MODEL: model.encode()})
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ParamsError(f"prediction log {folder}: {error}; name a folder that can be written") from None
        self._start()
        os.register_at_fork(after_in_child=self._start)

    def __enter__(self) -> PredictionLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def add(self, answers: pd.DataFrame, thresholds: Sequence[float]) -> None:
        """Log answers: label (a tuple if a text may have several), exit_layer, entropy.

        If the disk fails, a warning is given and the write is tried again later: the caller of the model still gets the
        answers. A full file that cannot be written is dropped with a warning, to bound the memory.
        """
        table = self._table(answers, thresholds)
        with self._lock:
            while len(table):
                part = table.slice(0, MOST_ROWS - self._rows)
                table = table.slice(len(part))
                self._parts.append(part)
                full = self._rows >= MOST_ROWS or sum(each.nbytes for each in self._parts) >= MOST_BYTES
                if full or time.monotonic() - self._written >= WRITE_SECONDS:
                    self._try_to_write("lost" if full else "not logged yet")
                if full:
                    self._start_file()

    def close(self) -> None:
        """Write what is not on disk yet. Raises TryAgainError if that fails."""
        with self._lock:
            try:
                if self._parts:
                    self._write()
            except OSError as error:
                raise TryAgainError(f"{self._path}: {self._rows:,} answers are not logged: {error}") from None

    @property
    def _rows(self) -> int:
        return sum(len(part) for part in self._parts)

    def _table(self, answers: pd.DataFrame, thresholds: Sequence[float]) -> pa.Table:
        labels = [[label] if isinstance(label, str) else list(label) for label in answers["label"]]
        columns = {
            "time": [datetime.now(UTC)] * len(answers),
            "exit_layer": answers["exit_layer"].to_numpy(),
            "entropy": answers["entropy"].to_numpy(),
            "labels": labels,
            "thresholds": [list(thresholds)] * len(answers),
        }
        arrays = [pa.array(columns[field.name], type=field.type) for field in self._schema]
        return pa.Table.from_arrays(arrays, schema=self._schema)

    def _start(self) -> None:
        """Also run in a forked child: it gets its own lock and does not write the parent's answers."""
        self._lock = threading.Lock()
        self._start_file()
        self._written = -WRITE_SECONDS  # time.monotonic() may begin at 0

    def _start_file(self) -> None:
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}-{uuid.uuid4().hex[:12]}.parquet"
        self._path = self._folder / name
        self._parts: list[pa.Table] = []

    def _try_to_write(self, otherwise: str) -> None:
        try:
            self._write()
        except OSError as error:
            _LOGGER.warning("%s: %d answers are %s: %s", self._path, self._rows, otherwise, error)

    def _write(self) -> None:
        self._written = time.monotonic()  # so that a failing disk is not tried at every request
        write_table(self._path, pa.concat_tables(self._parts))
