"""Runs and fetched folders of a known age, for the tests of `kd gc`."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from kd_ops.runs.runs import Run
from tests.helpers.bridge_stages import finished
from tests.helpers.miniature import Miniature


def later() -> datetime:
    return datetime.now(UTC) + timedelta(days=30)


def created(run: Run, time: str) -> None:
    run.storage.write("run.json", f'{{"recipe": "mini", "created": "{time}"}}'.encode())


def fetched(folder: Path, came: datetime, read: datetime | None = None) -> Path:
    """A folder of seven bytes that came then and was read last then."""
    file = folder / "student" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    os.utime(file, ((read or came).timestamp(), came.timestamp()))
    return folder


def two_runs(mini: Miniature) -> tuple[Run, Run]:
    """An old run and the newest one, which do not share what `join` wrote."""
    old, new = finished(mini, "old", join={"separator": "+"}), finished(mini, "new")
    created(old, "2026-01-01T00:00:00+00:00")
    created(new, "2026-01-02T00:00:00+00:00")
    return old, new
