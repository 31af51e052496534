"""Local files written whole or not at all, and JSON as every file of the project has it."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY = ".tmp"
"""How the names of files end that are not whole yet."""


def beside(path: Path) -> Path:
    """A new name in the folder of `path`, which says that what bears it is not whole."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}{TEMPORARY}")


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to, in the same folder, which is made; what is left under it at the end goes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file that replaces `path` once it is written: readers see the old content or the new, never a part.

    After a crash of the machine the name stands for all of the new content or for the old one.
    """
    with temporary(path) as partial:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)


def write_whole(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, as `whole` does."""
    with whole(path) as partial:
        partial.write_bytes(data)


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def to_json(value: Any) -> bytes:
    """`value` as indented JSON in UTF-8, keys in their order."""
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by `value` as JSON, whole or not at all."""
    write_whole(path, to_json(value))
