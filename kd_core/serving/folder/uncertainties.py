"""How uncertain each exit was about the calibration texts: the yardstick that a model in service is held against.

A Parquet file beside the weights, one row a text and no text in it: from it,
kd_core.serving.exits.thresholds tells for any thresholds where such texts leave and how uncertain their answers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.rows import write_table
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.exits.thresholds import Uncertainties

NAME = "uncertainties.parquet"


def write_uncertainties(folder: Path, layers: Sequence[int], uncertainty: Uncertainties) -> None:
    """Write `uncertainty` [N, E], one column an exit, into a model's folder."""
    columns = {f"layer_{layer}": pa.array(uncertainty[:, place]) for place, layer in enumerate(layers)}
    write_table(folder / NAME, pa.table(columns))


def read_uncertainties(folder: Path, layers: Sequence[int]) -> Uncertainties:
    """[N, E] from a model's folder. Raises InvalidDataError naming the file if it is missing or of another model."""
    path = folder / NAME
    try:
        table = pq.read_table(path)
        columns = [table.column(f"layer_{layer}").to_numpy() for layer in layers]
    except FileNotFoundError:
        raise InvalidDataError(f"{path}: missing; give a folder that the export stage wrote") from None
    except (pa.ArrowInvalid, KeyError) as error:
        raise InvalidDataError(f"{path}: not the uncertainties of exits {list(layers)}: {error}") from None
    return np.stack(columns, axis=1).astype(np.float32)
