"""Which files a folder, a list of names or a glob stands for, and which it leaves out: none without a word."""

from __future__ import annotations

import fnmatch
import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.formats import READABLE, format_of, holds_compressed_rows

_NAMED = 5
"""Files that a note names."""


@dataclass(frozen=True)
class Listing:
    """The table files of a folder or glob."""

    files: tuple[str, ...]
    """Sorted."""
    left_out: tuple[str, ...]
    """Hidden ones, those whose name or folder begins with an underscore, and those that are no tables."""


def choose(names: Iterable[str], where: str) -> Listing:
    """Sort names (with `/` between folders, relative to `where`) into those that are read and those left out.

    Raises InvalidDataError for a table in a compression that is not read: it surely holds rows.
    """
    files, left_out = [], []
    for name in sorted(names):
        path = PurePosixPath(name)
        if any(part.startswith((".", "_")) for part in path.parts):
            left_out.append(name)
        elif holds_compressed_rows(path):
            raise InvalidDataError(f"{where}: {name} is compressed in a way that is not read; unpack it, or use .gz")
        elif format_of(path) is None:
            left_out.append(name)
        else:
            files.append(name)
    return Listing(tuple(files), tuple(left_out))


def list_folder(folder: Path) -> Listing:
    """All files in the folder and below, relative to it. Raises InvalidDataError as `choose`, and if none is read."""
    names = [file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()]
    found = choose(names, str(folder))
    if not found.files:
        raise InvalidDataError(f"{folder}: no file in this folder is read ({noted(found.left_out)}); give {READABLE}")
    return found


def expand(pattern: Path) -> Listing:
    """The files that a glob stands for, `**` meaning any folders; both as whole paths.

    What the pattern itself spells may be hidden. Raises InvalidDataError as `choose`, and if none is read.
    """
    root = _literal_root(pattern)
    found = root.glob(str(pattern.relative_to(root)))
    names = [path.relative_to(root).as_posix() for path in found if path.is_file()]
    listing = choose(names, str(pattern))
    if not listing.files:
        raise InvalidDataError(f"{pattern}: no file that is read matches ({noted(listing.left_out)}); correct the path")
    return Listing(*(tuple(str(root / name) for name in part) for part in (listing.files, listing.left_out)))


def matching(names: Iterable[str], pattern: str) -> list[str]:
    """Those of the names (of objects, with `/`) that a glob stands for, `**` meaning any folders."""
    if "**" in pattern:
        return [name for name in names if fnmatch.fnmatchcase(name, pattern.replace("**/", "*"))]
    wanted = pattern.split("/")
    cut = ((name, name.split("/")) for name in names)
    return [n for n, parts in cut if len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))]


def is_pattern(address: str) -> bool:
    """Whether the address has signs of a glob."""
    return glob.has_magic(address)


def noted(left_out: Iterable[str]) -> str:
    """For a person: how many files were left out, and the first of them."""
    names = list(left_out)
    shown = ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
    return f"{len(names)} left out: {shown}" if names else "nothing there"


def _literal_root(pattern: Path) -> Path:
    """The folders before the first sign of a glob."""
    parts = pattern.parts
    first = next(at for at, part in enumerate(parts) if glob.has_magic(part))
    return Path(*parts[:first])
