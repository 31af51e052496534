"""What `kd gc` may delete on this machine: objects in DVC's cache, and fetched models and weights without readers.

All of it can be fetched or computed again. Objects that the store keeps also stay in the cache. The age of a fetched
folder counts from its last read or, on a file system without access times, from when it was fetched.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kd_core.runtime.files import beside
from kd_ops.base.settings import Settings
from kd_ops.retention.marks import Marks
from kd_ops.stages.workspace import at_work

IDLE = timedelta(days=30)
FETCHED = ("served/*/*", "downloads/*", "code/*")
"""Below KD_HOME: registered versions that answered `kd predict`, weights that stages fetched, the code of runs."""


def idle(settings: Settings, now: datetime) -> dict[Path, int]:
    """Folders that nobody has read for IDLE → size in bytes."""
    found = {}
    for pattern in FETCHED:
        for entry in sorted(settings.home.glob(pattern)):
            files = [path for path in [entry, *entry.rglob("*")] if path.is_file()]
            if now - _last_use(files or [entry]) > IDLE:
                found[entry] = sum(path.stat().st_size for path in files)
    return found


def sweep(found: Iterable[Path], marks: Marks, settings: Settings, now: datetime) -> None:
    """Delete what was found, except what was read in the meantime, and except the cache while a stage is at work."""
    still, busy = idle(settings, now), at_work(settings)
    for path in found:
        if path.is_relative_to(settings.cache_dir):
            if not busy and not marks.needs(f"dvc/{path.relative_to(settings.cache_dir)}"):
                remove(path)
        elif path in still:
            remove(path)


def remove(entry: Path) -> None:
    """Delete a file or a folder. A folder is renamed first, so that nobody finds a partial folder under its name."""
    if not entry.is_dir():
        entry.unlink(missing_ok=True)
        return
    gone = beside(entry)
    entry.rename(gone)
    shutil.rmtree(gone)


def _last_use(paths: list[Path]) -> datetime:
    times = [max(status.st_atime, status.st_mtime) for status in (path.stat() for path in paths)]
    return datetime.fromtimestamp(max(times), UTC)
