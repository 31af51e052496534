"""The local disk behind the few methods of an fsspec file system that `Storage` uses.

Importing fsspec takes longer than a stage that is found in the cache: it loads asyncio and ssl.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any


class LocalFiles:
    """Paths are absolute. A link is an entry of its own, never a folder that is walked through."""

    def cat_file(self, path: str) -> bytes:
        """The whole content. Raises FileNotFoundError."""
        return Path(path).read_bytes()

    def get_file(self, path: str, target: str) -> None:
        """Copy a file; of a folder, as fsspec does, only make one. Raises FileNotFoundError."""
        if Path(path).is_dir():
            Path(target).mkdir(parents=True, exist_ok=True)
        else:
            shutil.copyfile(path, target)

    def info(self, path: str) -> dict[str, Any]:
        """`size` in bytes and `mtime` in seconds. Raises FileNotFoundError."""
        status = Path(path).stat()
        return {"size": status.st_size, "mtime": status.st_mtime}

    def exists(self, path: str) -> bool:
        """Whether a file or folder is there."""
        return Path(path).exists()

    def find(self, path: str, detail: bool = False) -> Any:
        """Sorted paths of the files below a folder, or of the file itself; with `detail` a dict of their `info`.

        What others remove meanwhile, and a folder that cannot be read, is left out.
        """
        found = dict(sorted(_files(path) if Path(path).is_dir() else [(path, self.info(path))]))
        return found if detail else list(found)

    def rm(self, path: str, recursive: bool) -> None:
        """Remove a file or a link, or with `recursive` a folder with all in it."""
        if recursive and Path(path).is_dir() and not Path(path).is_symlink():
            shutil.rmtree(path)
        else:
            Path(path).unlink()

    def invalidate_cache(self) -> None:
        """Nothing is remembered here."""


def _files(folder: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
            continue
        with suppress(FileNotFoundError):
            status = entry.stat(follow_symlinks=False)
            yield entry.path, {"size": status.st_size, "mtime": status.st_mtime}
