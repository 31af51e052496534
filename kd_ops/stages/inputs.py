"""Files and folders of this machine that a run reads, put into the store under their content.

Params name them as `inputs/HASH/NAME`, so that no path of one machine enters a key: where the content is the same, the
stage is a HIT. The bridge lays them out under that name in the workspace of the stages whose params mention them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.fingerprint import of_file, of_folder
from kd_core.runtime.storage import Storage

FOLDER = "inputs"
_DIGITS = 16
_ADDRESS = re.compile(rf"{FOLDER}/[0-9a-f]{{{_DIGITS}}}/[^/]+")


def snapshot(path: Path, store_uri: str) -> tuple[str, str]:
    """Copy a file or folder into the store, once; its address (`inputs/HASH/NAME`) and sha256."""
    path = path.resolve()
    digest = of_file(path) if path.is_file() else of_folder(path)
    address = f"{FOLDER}/{digest[:_DIGITS]}/{path.name}"
    store = Storage(store_uri)
    done = f"{address}.complete"
    if not store.exists(done):
        for file in [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()):
            store.upload(file, "/".join([address, *file.relative_to(path).parts]))
        store.write(done, digest.encode())
    return address, digest


def mentioned(values: Any) -> set[str]:
    """All addresses in a stage's params."""
    return {match[0] for text in _texts(values) if (match := _ADDRESS.match(text))}


def lay_out(addresses: set[str], store_uri: str, folder: Path) -> None:
    """Put the content of `addresses` into the workspace. Raises TryAgainError if the store has lost it."""
    store = Storage(store_uri)
    for address in sorted(addresses):
        if not store.exists(f"{address}.complete"):
            raise TryAgainError(f"{address} is not in the store; resolve the run again where the file is")
        names = store.list(address) or [""]
        for name in names:
            target = folder / address / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = "/".join(part for part in (address, name) if part)
            store.download(source, target)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)
