"""What a training stage works with beside its rows: tokenizer, progress, and where unfinished work is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage


@dataclass(frozen=True)
class Work:
    """They travel together through every stage that trains."""

    tokenizer: Any
    progress: Progress
    state: Storage | None = None
    """None: nothing survives the process."""
