"""The shared store's objects and run-cache entries, in DVC's own layout below STORE_URI/dvc.

An object lies at files/md5/AA/REST, AA being the first two digits; a folder is an object ending in `.dir` that lists
its files. A stage's run-cache entry lies below runs/KK/KEY. The name of the entry is free to DVC; here it is the key
again, so that a conditional put lets one of two racing tasks win.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from yaml import YAMLError

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.documents import from_yaml, to_yaml
from kd_ops.base.settings import Settings

Listing = dict[str, str]
"""Relative path → md5 of a folder's files."""

_THREADS = 16


def object_name(md5: str) -> str:
    """Name of an object below a DVC remote or cache."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def listing_md5(files: Listing) -> str:
    """The hash that DVC gives a folder with these files."""
    entries = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def file_md5(path: Path) -> str:
    """The hash that DVC gives a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


class Objects:
    """Reads through the machine's cache, then the store."""

    def __init__(self, settings: Settings) -> None:
        self.store = Storage(f"{settings.store_uri}/dvc")
        self.cache = settings.cache_dir
        self._known: dict[str, Listing] = {}

    def listing(self, md5: str) -> Listing:
        """Files of the folder object `md5`. Raises FileNotFoundError if neither cache nor store has it."""
        if md5 not in self._known:
            self._known[md5] = {entry["relpath"]: entry["md5"] for entry in json.loads(self.read(md5))}
        return self._known[md5]

    def read(self, md5: str) -> bytes:
        """Bytes of an object. Raises FileNotFoundError if neither cache nor store has it."""
        cached = self.cache / object_name(md5)
        return cached.read_bytes() if cached.is_file() else self.store.read(object_name(md5))

    def members(self, md5: str) -> set[str]:
        """`md5` itself and, for a folder, the hashes of its files. Raises FileNotFoundError."""
        return {md5, *self.listing(md5).values()} if md5.endswith(".dir") else {md5}

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """Those of the objects that the store lacks."""
        names = sorted(set(wanted))
        with ThreadPoolExecutor(_THREADS) as pool:
            there = list(pool.map(lambda md5: self.store.exists(object_name(md5)), names))
        return [md5 for md5, found in zip(names, there, strict=True) if not found]

    def lacking(self, outs: Iterable[str]) -> list[str] | None:
        """Objects of these outputs that only this machine has and the store lacks; None if some are lost."""
        try:
            missing = self.missing({md5 for out in outs for md5 in self.members(out)})
        except FileNotFoundError:
            return None
        return missing if all((self.cache / object_name(md5)).is_file() for md5 in missing) else None

    def upload(self, hashes: Iterable[str]) -> None:
        """Copy objects from this machine's cache to the store; files before the folders that list them."""
        for md5 in sorted(hashes, key=lambda md5: md5.endswith(".dir")):
            self.store.upload(self.cache / object_name(md5), object_name(md5))


class RunCache:
    """DVC's run-cache in the shared store."""

    def __init__(self, settings: Settings) -> None:
        self._store = Storage(f"{settings.store_uri}/dvc")

    def entry(self, key: str) -> dict[str, Any] | None:
        """The entry of a stage's key: the one that won here, else one that plain DVC pushed; None if there is none."""
        names = [_entry_name(key)]
        content = self._read(names[0])
        if content is None:
            folder = f"runs/{key[:2]}/{key}"
            others = (self._read(f"{folder}/{name}") for name in self._store.list(folder))
            content = next((other for other in others if other), None)
        return content

    def publish(self, key: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Put `entry` unless somebody was faster; the entry that holds from now on."""
        if self._store.create(_entry_name(key), to_yaml(entry)):
            return entry
        winner = self._read(_entry_name(key))
        if winner is None:  # unreadable, as a crash may leave it: as good as lost
            self.replace(key, entry)
            winner = self._read(_entry_name(key))
        if winner is None:
            raise TryAgainError(f"run-cache entry {key} was removed while it was read; run the stage again")
        return winner

    def replace(self, key: str, entry: dict[str, Any]) -> None:
        """Overwrite the entry that is unreadable or whose objects are lost."""
        self._store.write(_entry_name(key), to_yaml(entry))

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            content = from_yaml(self._store.read(name))
        except (FileNotFoundError, UnicodeDecodeError, YAMLError):
            return None
        return content if isinstance(content, dict) and content.get("outs") else None


def _entry_name(key: str) -> str:
    return f"runs/{key[:2]}/{key}/{key}"
