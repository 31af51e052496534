"""What a measurement depends on: the machine, described without naming it.

Two machines of one kind give one fingerprint and share measurements; a laptop's latency never judges a pod.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.files import write_json
from kd_core.serving.speed.machine import processor

MACHINE = "machine.json"
"""The file, in a stage's workspace, that a stage lists whose result depends on the machine."""

_GPU_SECONDS = 30


def write_machine(folder: Path) -> None:
    """Write the workspace's machine.json. Raises TryAgainError if the GPUs do not answer."""
    write_json(folder / MACHINE, machine())


def machine() -> dict[str, Any]:
    """CPU model, usable cores, threads, memory class (GiB, a power of two), GPU names, operating system, architecture.

    Raises TryAgainError if the GPUs do not answer.
    """
    return {
        "cpu": processor(),
        "cores": _cores(),
        "threads": _threads(),
        "memory_gib": _memory_class(),
        "gpus": _gpus(),
        "os": platform.system().lower(),
        "arch": platform.machine(),
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _threads() -> int:
    """Threads that a stage computes with, which the user may set: the first of OpenMP's list for nested regions."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(first) if first.isdigit() and int(first) > 0 else _cores()


def _memory_class() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text(encoding="ascii").strip() if limit.is_file() else "max"
    size = min(total, int(text)) if text.isdigit() else total
    gib = max(1, round(size / 2**30))
    return 1 << (gib - 1).bit_length()


def _gpus() -> list[str]:
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=_GPU_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise TryAgainError(f"nvidia-smi gave no answer in {_GPU_SECONDS} s; check the GPU, then run again") from None
    return sorted(line.strip() for line in answer.stdout.splitlines() if line.strip()) if answer.returncode == 0 else []
