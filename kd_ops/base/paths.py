"""Names that come from elsewhere (a store, an archive) become paths only inside the folder that they are meant for."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from kd_core.runtime.errors import InvalidDataError


def inside(folder: Path, name: str, source: str) -> Path:
    """`folder / name`. Raises InvalidDataError, naming `source`, for a name that leads out of the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise InvalidDataError(f"{source} lists the file {name!r}, which lies outside its folder; delete {source}")
    return folder / path
