"""Files and folders of this machine that a run reads, put into the store under their content.

Params name them as `inputs/HASH/NAME`, so that no path of one machine enters a key: where the content is the same, the
stage is a HIT. The bridge lays them out under that name in the workspace of the stages whose params mention them.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.runtime.fingerprint import of_file, of_value
from kd_core.runtime.storage import Storage
from kd_ops.base.paths import inside

FOLDER = "inputs"
_DIGITS = 16
_COMPLETE = ".complete"
"""Ends the name of the file that says that everything of an address is in the store."""
_ADDRESS = re.compile(rf"{FOLDER}/[0-9a-f]{{{_DIGITS}}}/[^/]+")


@dataclass(frozen=True)
class Snapshot:
    """A file or folder in the store."""

    address: str
    """`inputs/HASH/NAME`."""
    digest: str
    """sha256 of the file, or over the names and bytes of the folder."""
    files: Mapping[str, str]
    """Name below the folder → sha256; empty for a file."""


def snapshot(path: Path, store_uri: str) -> Snapshot:
    """Copy a file or folder into the store, once.

    The address is the hash of what was copied: the original may change meanwhile. Raises TryAgainError if a file
    disappears while it is copied.
    """
    path = path.resolve()
    store = Storage(store_uri)
    try:
        found = _hashed(path)
        if not _stored(found, store):
            with tempfile.TemporaryDirectory(prefix="kd-input-") as folder:
                copy = _copied(path, Path(folder))
                found = _hashed(copy)
                if not _stored(found, store):
                    _upload(copy, found, store)
    except FileNotFoundError as error:
        raise TryAgainError(f"{error.filename}: disappeared while it was copied; start again") from None
    return found


def _hashed(path: Path) -> Snapshot:
    if path.is_file():
        digest, files = of_file(path), {}
    else:
        files = {file.relative_to(path).as_posix(): of_file(file) for file in _files(path)}
        digest = of_value(files)
    return Snapshot(f"{FOLDER}/{digest[:_DIGITS]}/{path.name}", digest, files)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _stored(found: Snapshot, store: Storage) -> bool:
    """Whether all of it is in the store; it then counts as young, so that `kd gc` leaves it alone."""
    return store.renew(f"{found.address}{_COMPLETE}")


def complete_of(name: str) -> str | None:
    """The file whose age is that of all of an address, for a name in the store below it; None for other names."""
    match = _ADDRESS.match(name.removesuffix(_COMPLETE))
    return f"{match[0]}{_COMPLETE}" if match else None


def _copied(path: Path, folder: Path) -> Path:
    target = folder / path.name
    if path.is_file():
        shutil.copyfile(path, target)
        return target
    target.mkdir()
    for file in _files(path):
        copy = target / file.relative_to(path)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    return target


def _upload(path: Path, found: Snapshot, store: Storage) -> None:
    for name in found.files or [""]:
        store.upload(path / name, f"{found.address}/{name}".rstrip("/"))
    store.write(f"{found.address}{_COMPLETE}", found.digest.encode())


def mentioned(values: Any) -> set[str]:
    """All addresses in a stage's params."""
    return {match[0] for text in _texts(values) if (match := _ADDRESS.match(text))}


def lay_out(addresses: set[str], store_uri: str, folder: Path) -> None:
    """Put the content of `addresses` into the workspace.

    Raises InvalidDataError if the store has lost it. Damaged content is deleted, so that the next run puts it there
    again.
    """
    store = Storage(store_uri)
    for address in sorted(addresses):
        if not store.exists(f"{address}{_COMPLETE}"):
            raise InvalidDataError(f"{address} is not in the store; start a new run where the file is")
        if not _downloaded(address, store, folder):
            store.delete(f"{address}{_COMPLETE}")
            store.delete(address)
            raise InvalidDataError(
                f"{address} is damaged in the store and was deleted; start a new run where the file is"
            )


def _downloaded(address: str, store: Storage, folder: Path) -> bool:
    """Whether all of the content came, as its address says."""
    for name in store.list(address) or [""]:
        target = inside(folder / address, name, address)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            store.download("/".join(part for part in (address, name) if part), target)
        except FileNotFoundError:
            return False
    return _hashed(folder / address).address == address


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
