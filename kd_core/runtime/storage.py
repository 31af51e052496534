"""Small files at a local path or any URL that fsspec knows, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kd_core.runtime.files import TEMPORARY, sync, temporary, whole, write_whole
from kd_core.runtime.local_files import LocalFiles

_CONFLICTS = 6
"""Tries of a conditional put that meets another one under way."""

_THREADS = 16

_ONTO_ITSELF = {"MetadataDirective": "REPLACE"}
"""S3 copies an object onto itself only where something is said to change."""


@dataclass(frozen=True)
class FileStatus:
    """What is known of a file without reading it."""

    size: int
    """Bytes."""
    modified: datetime
    """UTC."""


def _status(entry: dict[str, Any]) -> FileStatus:
    changed = entry.get("LastModified") or datetime.fromtimestamp(entry["mtime"], UTC)
    return FileStatus(int(entry["size"]), changed)


def _file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path there."""
    path = url.removeprefix("file://")
    if "://" not in path:
        return LocalFiles(), str(Path(path).expanduser().absolute())
    import fsspec

    files, root = fsspec.core.url_to_fs(url)
    return files, str(root)


class Storage:
    """A folder at a path or URL. Names are relative, with `/` between parts.

    A write is atomic: locally through a temporary file and a rename, on object stores because a PUT is.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url).rstrip("/")
        self._fs, root = _file_system(self.url)
        self._root = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFiles)

    def __truediv__(self, name: str) -> Storage:
        return Storage(f"{self.url}/{name}")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def read(self, name: str) -> bytes:
        """The whole content. Raises FileNotFoundError."""
        return bytes(self._fs.cat_file(self._path(name)))

    def write(self, name: str, data: bytes) -> None:
        """Replace `name` by `data`; a reader sees the old content or the new, never a part."""
        if self._local:
            write_whole(Path(self._path(name)), data)
        else:
            self._fs.pipe_file(self._path(name), data)

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file here without holding it in memory; whole or not at all."""
        if not self._local:
            self._fs.put_file(str(source), self._path(name))
            return
        with whole(Path(self._path(name))) as partial:
            shutil.copyfile(source, partial)

    def sync(self, names: Iterable[str]) -> None:
        """Bring files that others wrote here to the disk; an object store has done so before it answered."""
        if not self._local:
            return
        paths = [Path(self._path(name)) for name in names]
        for path in [*paths, *{path.parent for path in paths}]:
            sync(path)

    def download(self, name: str, target: Path) -> None:
        """Copy a file from here to a local path. Raises FileNotFoundError."""
        target.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(self._path(name), str(target))

    def create(self, name: str, data: bytes) -> bool:
        """Write `name` only if nobody has before (conditional put). True if this call wrote it."""
        path = self._path(name)
        if not self._local:
            return self._create_remote(path, data)
        target = Path(path)
        with temporary(target) as partial:
            partial.write_bytes(data)
            sync(partial)
            try:
                os.link(partial, target)
            except FileExistsError:
                return False
        sync(target.parent)
        return True

    def _create_remote(self, path: str, data: bytes) -> bool:
        for attempt in range(_CONFLICTS):
            try:
                self._fs.pipe_file(path, data, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as error:  # s3fs does not translate S3's answers to a conditional put
                code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
                if code == "PreconditionFailed":
                    return False
                if code != "ConditionalRequestConflict" or attempt == _CONFLICTS - 1:
                    raise
                time.sleep(0.1 * 2**attempt)
        raise AssertionError("unreachable")

    def renew(self, name: str) -> bool:
        """Have a file count as written just now, for whoever goes by its age; False if it is not there."""
        path = self._path(name)
        try:
            if self._local:
                os.utime(path)
            else:
                self._fs.invalidate_cache()
                self._fs.cp_file(path, path, **_ONTO_ITSELF)
        except FileNotFoundError:
            return False
        return True

    def status(self, name: str) -> FileStatus | None:
        """Size and age of a file; None if it is not there."""
        self._fs.invalidate_cache()
        try:
            return _status(self._fs.info(self._path(name)))
        except FileNotFoundError:
            return None

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
        return sorted(n for n in names if n and not n.endswith(TEMPORARY))

    def statuses(self, name: str = "") -> dict[str, FileStatus]:
        """Size and age of each file that `list` names."""
        self._fs.invalidate_cache()
        root = self._path(name)
        found = self._fs.find(root, detail=True) if self._fs.exists(root) else {}
        return {str(path)[len(root) :].lstrip("/"): _status(entry) for path, entry in found.items() if path != root}

    def now(self) -> datetime:
        """The time by the clock that stamps the files here, whatever this machine's own says."""
        name = f"clock/{uuid.uuid4().hex}"
        self.write(name, b"")
        try:
            return _status(self._fs.info(self._path(name))).modified
        finally:
            self.delete(name)

    def delete(self, name: str = "") -> None:
        """Remove `name`, a file or a whole folder; nothing happens if it is not there."""
        path = self._path(name)
        if self._local:
            if self._fs.exists(path):
                self._fs.rm(path, recursive=True)
            return
        self._fs.invalidate_cache()
        with ThreadPoolExecutor(_THREADS) as pool:  # `rm` would take `*`, `?` and `[` in a name for a pattern
            list(pool.map(self._fs.rm_file, self._fs.find(path)))
