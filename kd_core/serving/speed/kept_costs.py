"""Where a machine keeps its timings: the folder that KD_COSTS names, under the hashes of graphs and machine."""

from __future__ import annotations

import os
from pathlib import Path

from kd_core.runtime import fingerprint
from kd_core.serving.folder.record import identity
from kd_core.serving.graphs.executor import Executor
from kd_core.serving.speed.costs import Costs
from kd_core.serving.speed.machine import serving_machine


def costs_path(executor: Executor) -> Path | None:
    """The file of this machine's timings of these graphs with this number of threads; None if KD_COSTS is not set."""
    folder = os.environ.get("KD_COSTS")
    if not folder:
        return None
    model = identity(executor.graphs.folder)[:16]
    machine = fingerprint.of_value(serving_machine(executor.lanes.threads))[:16]
    return Path(folder) / f"{model}-{machine}.json"


def known_costs(executor: Executor) -> Costs | None:
    """The timings that were kept; None if there are none for this machine."""
    path = costs_path(executor)
    return Costs.read(path) if path is not None and path.is_file() else None
