"""What a measurement depends on: the machine, described without naming it.

Two machines of one kind give one fingerprint and share measurements; a laptop's latency never judges a pod.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """CPU model, usable cores, memory class (GiB, a power of two), GPU names, operating system, architecture."""
    return {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_class(),
        "gpus": _gpus(),
        "os": platform.system().lower(),
        "arch": platform.machine(),
    }


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.processor() or "unknown"
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1].strip() if match else platform.machine()


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
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return sorted(line.strip() for line in answer.stdout.splitlines() if line.strip()) if answer.returncode == 0 else []
