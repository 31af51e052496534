"""Finds the teachers of a run that belong to the reference task, and so can be compared with the student."""

from __future__ import annotations

from pathlib import Path

from kd_core.runtime.errors import InvalidDataError
from kd_core.teachers.model import RECORD, read_record


def reference_teachers(folder: Path) -> list[Path]:
    """Folders of the teachers of the reference task, by name. Raises InvalidDataError if there is none."""
    folders = sorted(path.parent for path in folder.glob(f"*/{RECORD}"))
    found = [path for path in folders if read_record(path)["data"] == "reference"]
    if not found:
        raise InvalidDataError(f"{folder}: holds no teacher of the reference task; declare one under teachers")
    return found
