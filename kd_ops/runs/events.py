"""A stage's progress events: the newest one, and how far it says the stage is, in one line of text."""

from __future__ import annotations

import json
from typing import Any

from kd_ops.runs.runs import Run

_HIDDEN = {"stage", "phase", "done", "total", "unit", "rate", "time"}


def last_event(run: Run, stage: str) -> dict[str, Any]:
    """The newest event of a stage's progress file; empty before the first."""
    try:
        return newest_event(run.storage.read(f"progress/{stage}.jsonl"))
    except FileNotFoundError:
        return {}


def newest_event(progress: bytes) -> dict[str, Any]:
    """The last whole line of a progress file; a line still being written is passed over."""
    for line in reversed(progress.splitlines()[-5:]):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            return event
    return {}


def progress_line(head: str, event: dict[str, object]) -> str:
    """One line on how far something is."""
    parts = [head, str(event.get("phase", "")), share(event), details(event)]
    return "  ".join(part for part in parts if part)


def share(event: dict[str, object]) -> str:
    """How much of the phase is done, in percent; empty where the total is not known."""
    done, total = event.get("done"), event.get("total")
    if not isinstance(total, int | float) or not isinstance(done, int | float) or total <= 0:
        return ""
    return f"{min(done / total, 1.0):.0%}"


def details(event: dict[str, object]) -> str:
    """Amount, rate, time left and further numbers of a progress event."""
    parts = []
    done, total, rate, unit = (event.get(key) for key in ("done", "total", "rate", "unit"))
    if isinstance(done, int | float):
        of = f"/{total:,.0f}" if isinstance(total, int | float) else ""
        parts.append(f"{done:,.0f}{of} {unit}")
    if isinstance(rate, int | float) and rate > 0:
        parts.append(f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s")
        if isinstance(total, int | float) and isinstance(done, int | float):
            parts.append(f"{duration(max(total - done, 0) / rate)} left")
    numbers = [(key, value) for key, value in event.items() if key not in _HIDDEN]
    parts += [f"{key} {value:.4g}" for key, value in numbers if isinstance(value, int | float)]
    return " · ".join(parts)


def duration(seconds: float) -> str:
    """A time a person reads at once: 0.4 s, 141 s, 12 min 5 s, 2 h 3 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 180:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
