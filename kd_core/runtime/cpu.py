"""What a process computes with on a CPU: its threads, and graphs in onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import InvalidDataError

SLOWER_FUSIONS = ["SkipLayerNormFusion"]
"""Left out: on CPUs its kernel takes several times as long as the Add and LayerNormalization it replaces."""


def usable_threads() -> int:
    """Threads to compute with: OMP_NUM_THREADS where it is set, as for everything else, or the cores we may use."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdigit() and int(first) > 0:
        return int(first)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def open_session(path: Path) -> Any:
    """A session on the CPU, each call with one thread. Raises InvalidDataError naming a file that is no graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = 1, 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=SLOWER_FUSIONS
        )
    except Exception as error:  # onnxruntime's exceptions have no common base but this
        raise InvalidDataError(f"{path}: onnxruntime cannot load it: {error}") from None
