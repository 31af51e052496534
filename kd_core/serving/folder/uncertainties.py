"""How uncertain each exit was about the calibration texts: the yardstick that a model in service is held against.

A Parquet file beside the weights, one row a text and no text in it: from it,
kd_core.serving.exits.thresholds tells for any thresholds where such texts leave and how uncertain their answers are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from kd_core.rows import write_table
from kd_core.serving.exits.thresholds import Uncertainties

NAME = "uncertainties.parquet"


def write_uncertainties(folder: Path, layers: Sequence[int], uncertainty: Uncertainties) -> None:
    """Write `uncertainty` [N, E], one column an exit, into a model's folder."""
    columns = {f"layer_{layer}": pa.array(uncertainty[:, place]) for place, layer in enumerate(layers)}
    write_table(folder / NAME, pa.table(columns))
