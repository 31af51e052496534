"""What the speed of the graphs depends on, besides the graphs: processor, threads, onnxruntime's version."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Any


def processor() -> str:
    """The model name of the CPU."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


def serving_machine(threads: int) -> dict[str, Any]:
    """A description of the machine without its name; machines with the same description share timings."""
    import onnxruntime

    return {
        "cpu": processor(),
        "arch": platform.machine(),
        "threads": threads,
        "onnxruntime": onnxruntime.__version__,
    }
