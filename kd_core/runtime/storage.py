"""Small files at a local path or any URL that fsspec knows, written whole or not at all."""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kd_core.runtime import s3
from kd_core.runtime.errors import ParamsError
from kd_core.runtime.files import TEMPORARY, sync, temporary, whole, write_whole
from kd_core.runtime.local_files import LocalFiles

_CONFLICTS = 6
"""Tries of a conditional put that meets another one under way."""

_THREADS = 16

_ONTO_ITSELF = {"MetadataDirective": "REPLACE"}
"""S3 copies an object onto itself only where something is said to change."""

PAGE = 1000
"""Names that S3 tells in one answer."""


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

    if path.startswith("s3://"):  # where s3fs looks, so that DVC's own file system has the same
        fsspec.config.conf.setdefault("s3", {}).update(s3.fsspec_options())
    files, root = fsspec.core.url_to_fs(url)
    return files, str(root)


def _answer(error: OSError) -> str | None:
    """The code with which S3 refused, which s3fs keeps; None where there is none."""
    code: str | None = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
    return code


class Storage:
    """A folder at a path or URL. Names are relative, with `/` between parts.

    A write is atomic: locally through a temporary file and a rename, on object stores because a PUT is.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = os.fspath(url).rstrip("/")
        self._fs, root = _file_system(self.url)
        self._root = root.rstrip("/")
        self._local = isinstance(self._fs, LocalFiles)
        self._s3 = self.url.startswith("s3://")

    def __truediv__(self, name: str) -> Storage:
        return Storage(f"{self.url}/{name}")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    @contextmanager
    def _in_bucket(self) -> Iterator[None]:
        """Raises ParamsError where the bucket itself is missing: nothing that is asked of it will ever be there."""
        try:
            yield
        except FileNotFoundError as error:
            if _answer(error) != "NoSuchBucket":
                raise
            raise ParamsError(
                f"{self.url}: there is no bucket {self._root.split('/')[0]}; make it, or correct the address "
                "(KD_STORE_URI, KD_RUNS_URI)"
            ) from None

    def read(self, name: str) -> bytes:
        """The whole content. Raises FileNotFoundError; and ParamsError, as all below, if there is no such bucket."""
        one_request = {"max_concurrency": 1} if self._s3 else {}  # else s3fs asks for the size first
        with self._in_bucket():
            return bytes(self._fs.cat_file(self._path(name), **one_request))

    def write(self, name: str, data: bytes) -> None:
        """Replace `name` by `data`; a reader sees the old content or the new, never a part."""
        if self._local:
            write_whole(Path(self._path(name)), data)
        else:
            with self._in_bucket():
                self._fs.pipe_file(self._path(name), data)

    def upload(self, source: Path, name: str) -> None:
        """Copy a local file here without holding it in memory; whole or not at all."""
        if not self._local:
            with self._in_bucket():
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
                with self._in_bucket():
                    self._fs.pipe_file(path, data, mode="create")
                return True
            except FileExistsError:
                return False
            except OSError as error:  # s3fs does not translate S3's answers to a conditional put
                code = _answer(error)
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

    def page(self, name: str, after: str = "") -> list[str]:
        """The first PAGE of the names below a folder that come after `after`, relative to it; fewer only at the end.

        One request on S3.
        """
        if not self._s3:
            return [each for each in self.list(name) if each > after][:PAGE]
        bucket, _, folder = self._path(name).partition("/")
        place = {"Bucket": bucket, "Prefix": f"{folder}/", "StartAfter": f"{folder}/{after}", "MaxKeys": PAGE}
        with self._in_bucket():
            found = self._fs.call_s3("list_objects_v2", **place)
        return [entry["Key"].removeprefix(f"{folder}/") for entry in found.get("Contents", [])]

    def list(self, name: str = "") -> list[str]:
        """All file names under `name`, relative to it, sorted; empty if there is no such folder."""
        root = self._path(name)
        names = (path[len(root) :].lstrip("/") for path in self._below(root))
        return sorted(n for n in names if n and not n.endswith(TEMPORARY))

    def statuses(self, name: str = "") -> dict[str, FileStatus]:
        """Size and age of each file that `list` names."""
        root = self._path(name)
        found = self._below(root)
        return {path[len(root) :].lstrip("/"): _status(entry) for path, entry in found.items() if path != root}

    def _below(self, root: str) -> dict[str, dict[str, Any]]:
        """What fsspec knows of each file below a folder, or of the file that is there instead."""
        self._fs.invalidate_cache()
        if self._s3:  # one request; s3fs itself would look for a file and a folder of that name first
            bucket, _, folder = root.partition("/")
            with self._in_bucket():
                found = self._fs.find(bucket, prefix=f"{folder}/" if folder else "", detail=True)
        else:
            found = self._fs.find(root, detail=True) if self._fs.exists(root) else {}
        return {str(path): entry for path, entry in found.items()}

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
        files = [*self._below(path), *([path] if self._s3 else [])]  # S3 deletes what is not there without a word
        with self._in_bucket(), ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(self._fs.rm_file, files))  # `rm` would take `*`, `?` and `[` in a name for a pattern
