"""Logits in a column of a Parquet file: for each row the U · C numbers of its units, one after the other."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from kd_core.tasks.units import Units


def to_column(logits: Units) -> pa.Array:
    """[N] lists of numbers, from logits [ΣU, C]."""
    classes = logits.values.shape[1]
    flat = pa.array(np.ascontiguousarray(logits.values, dtype=np.float32).ravel())
    return pa.ListArray.from_arrays(pa.array((logits.offsets * classes).astype(np.int32)), flat)


def from_column(column: pa.ChunkedArray, classes: int) -> Units:
    """Logits [ΣU, C]; columns of lists of one size, which older shards have, are read as well."""
    array = column.combine_chunks()
    lengths = array.value_lengths().to_numpy(zero_copy_only=False)
    values = array.flatten().to_numpy(zero_copy_only=False).reshape(-1, classes)
    return Units.of_sizes(values.copy(), lengths.astype(np.int64) // classes)
