"""Small files at a local path or any URL that fsspec knows, written whole or not at all."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Storage:
    """A folder at a path or URL. Names are relative, with `/` between parts.

    A write is atomic: locally through a temporary file and a rename, on object stores because a PUT is.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url).rstrip("/")
        self._fs, root = fsspec.core.url_to_fs(self.url)
        self._root: str = str(root).rstrip("/")
        self._local = isinstance(self._fs, LocalFileSystem)

    def __truediv__(self, name: str) -> Storage:
        return Storage(f"{self.url}/{name}")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def read(self, name: str) -> bytes:
        """The whole content. Raises FileNotFoundError."""
        return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Replace `name` by `data`; a reader sees the old content or the new, never a part."""
        path = self._path(name)
        if not self._local:
            self._fs.pipe_file(path, data)
            return
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def create(self, name: str, data: bytes) -> bool:
        """Write `name` only if nobody has before (conditional put). True if this call wrote it."""
        path = self._path(name)
        if not self._local:
            try:
                self._fs.pipe_file(path, data, mode="create")
            except FileExistsError:
                return False
            return True
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}.tmp")
        try:
            temporary.write_bytes(data)
            os.link(temporary, target)
        except FileExistsError:
            return False
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def exists(self, name: str) -> bool:
        """Whether `name` is a file or folder here."""
        self._fs.invalidate_cache()
        return bool(self._fs.exists(self._path(name)))

    def list(self, name: str = "") -> list[str]:
        """All file names under `name`, relative to it, sorted; empty if there is no such folder."""
        self._fs.invalidate_cache()
        root = self._path(name)
        if not self._fs.exists(root):
            return []
        found = (str(path) for path in self._fs.find(root))
        names = (path[len(root) :].lstrip("/") for path in found)
        return sorted(n for n in names if n and not n.endswith(".tmp"))

    def delete(self, name: str = "") -> None:
        """Remove `name`, a file or a whole folder; nothing happens if it is not there."""
        path = self._path(name)
        if self._fs.exists(path):
            self._fs.rm(path, recursive=True)
