"""One process of this machine at a time; the kernel drops the lock of a process that dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager

from kd_ops.base.settings import Settings


@contextmanager
def exclusive(settings: Settings, name: str) -> Iterator[None]:
    """Hold the lock `name` below KD_HOME."""
    place = settings.home / "locks" / f"{name}.lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
