"""The shared store's objects and run-cache entries, in DVC's own layout below STORE_URI/dvc.

An object lies at files/md5/AA/REST, AA being the first two digits; a folder is an object ending in `.dir` that lists
its files. A stage's run-cache entry lies below runs/KK/KEY. The name of the entry is free to DVC; here it is the key
again, so that a conditional put lets one of two racing tasks win.

What is read is hashed. An object that is not what its name says is named, deleted and from then on lacking: it is
fetched or computed again. DVC would pull it without a word and never replace it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from yaml import YAMLError

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.storage import PAGE, Storage
from kd_ops.base.documents import from_yaml, to_yaml
from kd_ops.base.paths import inside
from kd_ops.base.settings import Settings

Listing = dict[str, str]
"""Relative path → md5 of a folder's files."""

_THREADS = 16
_YOUNG = timedelta(hours=12)
"""Half of the time for which `kd gc` leaves a file alone, so that clocks may differ."""
_OBJECTS = "files/md5"
_FOLDER = re.compile(r"[0-9a-f]{2}/")
_LISTED = 16_000
"""A store of more objects is not listed: it is asked for each object that matters."""

_LOG = logging.getLogger(__name__)


def object_name(md5: str) -> str:
    """Name of an object below a DVC remote or cache."""
    return f"{_OBJECTS}/{md5[:2]}/{md5[2:]}"


def listing_md5(files: Listing) -> str:
    """The hash that DVC gives a folder with these files."""
    entries = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return hashlib.md5(json.dumps(entries, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def file_md5(path: Path) -> str:
    """The hash that DVC gives a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def stage_key(fragment: dict[str, Any], outs: Sequence[str]) -> str:
    """The hash by which DVC's run-cache finds a stage with these inputs (cmd, deps, params) and output paths."""
    counted = _without_sizes({**fragment, "outs": list(outs)})
    return hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()


def _without_sizes(value: Any) -> Any:
    """As DVC leaves them out of a key, at every level; its own function would cost the import of DVC."""
    if isinstance(value, list):
        return [_without_sizes(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_sizes(item) for key, item in value.items() if key not in ("size", "nfiles")}
    return value


def places(settings: Settings) -> list[Storage]:
    """Where objects are, nearest first: this machine's cache, the store."""
    return [Storage(settings.cache_dir), Storage(f"{settings.store_uri}/dvc")]


def read_object(md5: str, places: Iterable[Storage]) -> bytes:
    """Bytes of an object. Raises FileNotFoundError if all places lack it; a damaged copy is deleted."""
    for place in places:
        try:
            data = place.read(object_name(md5))
        except FileNotFoundError:
            continue
        if hashlib.md5(data, usedforsecurity=False).hexdigest() == md5.removesuffix(".dir"):
            return data
        _discard(md5, place)
    raise FileNotFoundError(object_name(md5))


def read_listing(md5: str, places: Iterable[Storage]) -> Listing:
    """Files of a folder object. Raises FileNotFoundError, and InvalidDataError if it lists one outside the folder."""
    files = {entry["relpath"]: entry["md5"] for entry in json.loads(read_object(md5, places))}
    for name in files:
        inside(Path(), name, f"object {md5}")
    return files


def _discard(md5: str, place: Storage) -> None:
    _LOG.warning("object %s in %s is damaged; it was deleted and is fetched or computed again", md5, place.url)
    place.delete(object_name(md5))


class Objects:
    """Reads through the machine's cache, then the store."""

    def __init__(self, settings: Settings) -> None:
        self._places = places(settings)
        self.store = self._places[1]
        self.cache = settings.cache_dir
        self._known: dict[str, Listing] = {}
        self._seen: frozenset[str] | None = None if "://" in settings.store_uri else frozenset()

    def listing(self, md5: str) -> Listing:
        """Files of the folder object `md5`. Raises FileNotFoundError if neither cache nor store has it."""
        if md5 not in self._known:
            self._known[md5] = read_listing(md5, self._places)
        return self._known[md5]

    def read(self, md5: str) -> bytes:
        """Bytes of an object. Raises FileNotFoundError if neither cache nor store has it."""
        return read_object(md5, self._places)

    def members(self, md5: str) -> set[str]:
        """`md5` itself and, for a folder, the hashes of its files. Raises FileNotFoundError."""
        return {md5, *self.listing(md5).values()} if md5.endswith(".dir") else {md5}

    def missing(self, wanted: Iterable[str]) -> list[str]:
        """Those of the objects that the store lacks."""
        if self._seen is None:
            self._seen = _listed(self.store)
        names = sorted(md5 for md5 in set(wanted) if object_name(md5) not in self._seen)
        with ThreadPoolExecutor(_THREADS) as pool:
            there = list(pool.map(lambda md5: self.store.exists(object_name(md5)), names))
        return [md5 for md5, found in zip(names, there, strict=True) if not found]

    def lacking(self, outs: Iterable[str]) -> list[str] | None:
        """Objects of these outputs that only this machine has and the store lacks; None if some are lost."""
        try:
            missing = self.missing({md5 for out in outs for md5 in self.members(out)})
        except FileNotFoundError:
            return None
        return missing if self.cached(missing) == set(missing) else None

    def cached(self, wanted: Iterable[str]) -> set[str]:
        """Those of the objects that this machine's cache has; a damaged one is deleted."""
        found = set()
        for md5 in wanted:
            path = self.cache / object_name(md5)
            if not path.is_file():
                continue
            if file_md5(path) == md5.removesuffix(".dir"):
                found.add(md5)
            else:
                _discard(md5, self._places[0])
        return found

    def discard_damaged(self, hashes: Iterable[str]) -> list[str]:
        """Delete those of the objects that are damaged in the store; which."""
        return [md5 for md5 in hashes if self.store.exists(object_name(md5)) and self._is_damaged(md5)]

    def _is_damaged(self, md5: str) -> bool:
        try:
            read_object(md5, [self.store])
        except FileNotFoundError:
            return True
        return False

    def upload(self, hashes: Iterable[str]) -> None:
        """Copy objects from this machine's cache to the store; files before the folders that list them."""
        for md5 in sorted(hashes, key=lambda md5: md5.endswith(".dir")):
            self.store.upload(self.cache / object_name(md5), object_name(md5))

    def settle(self, hashes: Iterable[str]) -> None:
        """What was pushed is there as this machine has it, and on the disk: DVC takes a name for the whole object."""
        names = sorted(hashes)
        with ThreadPoolExecutor(_THREADS) as pool:
            good = list(pool.map(self._is_settled, names))
        self.upload(md5 for md5, there in zip(names, good, strict=True) if not there)
        self.store.sync(map(object_name, names))

    def _is_settled(self, md5: str) -> bool:
        """Whether the store has all of an object, and `kd gc` will find it young: it may be looking for old ones."""
        found, here = self.store.status(object_name(md5)), (self.cache / object_name(md5)).stat().st_size
        if found is None or found.size != here:
            return False
        return datetime.now(UTC) - found.modified < _YOUNG or self.store.renew(object_name(md5))


def _listed(store: Storage) -> frozenset[str]:
    """Names of objects that are in the store: all of them if some pages tell them all, else some.

    A page tells of a thousand objects, so it is cheaper than to ask for each. Hashes are spread evenly: where the first
    page ends says how many there are.
    """
    names: list[str] = []
    while page := store.page(_OBJECTS, after=names[-1] if names else ""):
        names += page
        share = (int(page[-1][:2], 16) + 1) / 256 if _FOLDER.match(page[-1]) else 1.0
        if len(page) < PAGE or len(names) > _LISTED * share:
            break
    return frozenset(f"{_OBJECTS}/{name}" for name in names)


class RunCache:
    """DVC's run-cache in the shared store."""

    def __init__(self, settings: Settings) -> None:
        self._store = Storage(f"{settings.store_uri}/dvc")

    def entry(self, key: str) -> dict[str, Any] | None:
        """The entry of a stage's key: the one that won here, else one that plain DVC pushed; None if there is none."""
        content = self._read(_entry_name(key), key)
        if content is None:
            folder = f"runs/{key[:2]}/{key}"
            others = (self._read(f"{folder}/{name}", key) for name in self._store.list(folder))
            content = next((other for other in others if other), None)
        return content

    def has(self, key: str) -> bool:
        """Whether there is an entry, whatever stands in it."""
        return self._store.exists(_entry_name(key)) or bool(self._store.list(f"runs/{key[:2]}/{key}"))

    def publish(self, key: str, entry: dict[str, Any]) -> dict[str, Any]:
        """Put `entry` unless somebody was faster; the entry that holds from now on."""
        if self._store.create(_entry_name(key), to_yaml(entry)):
            return entry
        winner = self._read(_entry_name(key), key)
        if winner is None:  # unreadable, as a crash may leave it: as good as lost
            self.replace(key, entry)
            winner = self._read(_entry_name(key), key)
        if winner is None:
            raise TryAgainError(f"run-cache entry {key} was removed while it was read; run the stage again")
        return winner

    def replace(self, key: str, entry: dict[str, Any]) -> None:
        """Overwrite the entry that is unreadable or whose objects are lost."""
        self._store.write(_entry_name(key), to_yaml(entry))

    def _read(self, name: str, key: str) -> dict[str, Any] | None:
        """The entry; None if there is none, or it is damaged: its inputs and paths have the key as their hash."""
        try:
            content = from_yaml(self._store.read(name))
            outs = [out["path"] for out in content["outs"] if out["md5"]]
        except (FileNotFoundError, UnicodeDecodeError, YAMLError, KeyError, TypeError):
            return None
        return content if outs and stage_key(content, outs) == key else None


def _entry_name(key: str) -> str:
    return f"runs/{key[:2]}/{key}/{key}"
