"""Rows from csv, jsonl and Parquet files, with the user's column names mapped to ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kd_core.config.data import Role
from kd_core.data.sources.columns import RowForm, theirs, to_rows
from kd_core.data.sources.ids import Part, joined
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.listing import expand, is_pattern, list_folder, noted
from kd_core.tables.reading import read_table

TRAINING_SIDE = (None, "train", "unlabelled")
"""Splits that may share a file."""


@dataclass(frozen=True)
class SourceFile:
    """A file of a source."""

    split: str | None
    path: Path
    name: str
    """In its folder."""


def read_files(paths: Mapping[str | None, Sequence[Path]], form: RowForm) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the files of all splits (key None: no split given), and notes for a person.

    Columns: id, text, text_pair?, label, and split unless None. A path may be a folder, all of whose files are read,
    or a glob; what either leaves out is noted. Raises InvalidDataError naming the file and what to do.
    """
    files, notes = list_files(paths)
    parts: list[Part] = []
    first: dict[str, SourceFile] = {}
    for file, name in zip(files, _distinct(files), strict=True):
        found = to_rows(read_table(file.path), form.of_split(file.split), str(file.path))
        if len(found):
            notes += _copies(first.setdefault(fingerprint.of_file(file.path), file), file, form.role)
        parts.append((name, found.assign(split=file.split)))
    rows, more = joined(parts, theirs(form.columns, "id"))
    if rows.empty:
        raise InvalidDataError(f"data.{form.role}.source: {', '.join(str(file.path) for file in files)}: no rows")
    return rows, [*notes, *more]


def list_files(paths: Mapping[str | None, Sequence[Path]]) -> tuple[list[SourceFile], list[str]]:
    """Every file, and notes on those that folders and globs leave out. Raises InvalidDataError for a missing one."""
    files, notes = [], []
    for split, given in paths.items():
        for path in given:
            if path.is_dir():
                listing = list_folder(path)
                files += [SourceFile(split, path / name, name) for name in listing.files]
            elif not path.exists() and is_pattern(str(path)):
                listing = expand(path)
                files += [SourceFile(split, Path(name), Path(name).name) for name in listing.files]
            elif path.is_file():
                files.append(SourceFile(split, path, path.name))
                continue
            else:
                raise InvalidDataError(f"{path}: no such file or folder; correct the `path` of the data source")
            if listing.left_out:
                notes.append(f"files of {path.name}: {noted(listing.left_out)}")
    return files, notes


def _distinct(files: Sequence[SourceFile]) -> list[str]:
    """A name for each file, by which its rows can be told from those of others."""
    times = Counter(file.name for file in files)
    split = [f"{file.split}/{file.name}" if file.split and times[file.name] > 1 else file.name for file in files]
    seen: Counter[str] = Counter()
    names = []
    for name in split:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def _copies(first: SourceFile, file: SourceFile, role: Role) -> list[str]:
    """A note where a file holds the same bytes as another. Raises where that would test a model on what it has seen."""
    if first is file:
        return []
    if first.split != file.split and not {first.split, file.split} <= set(TRAINING_SIDE):
        raise InvalidDataError(
            f"data.{role}.source.path: {first.split} and {file.split} are the same file ({file.path}); give each "
            "split rows of its own, or give one path alone and let splits be made of it"
        )
    return [f"{file.name} holds the same rows as {first.name}: each of them counts twice"]
