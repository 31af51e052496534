"""Stable sha256 fingerprints of values, files and folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_BLOCK = 1 << 20


def of_value(value: Any) -> str:
    """Hash of a JSON-able value; key order does not matter."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def of_file(path: Path) -> str:
    """Hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def of_folder(path: Path) -> str:
    """Hash over the names and bytes of all files below `path`; times and modes do not count."""
    files = sorted(p for p in path.rglob("*") if p.is_file())
    return of_value({p.relative_to(path).as_posix(): of_file(p) for p in files})


def of_objects(etags: Mapping[str, str], prefix: str) -> str | None:
    """Hash over the keys and etags of a bucket's objects at or below `prefix`; None if there are none."""
    own = {key: etag for key, etag in etags.items() if key == prefix or key.startswith(f"{prefix}/") or not prefix}
    return of_value(own) if own else None
