"""Looks at a data set: which source it is, what its columns are, and what its rows look like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kd_core.config.base import parse
from kd_core.config.data import FilesSource, HuggingFaceSource
from kd_core.config.names import Column, Split
from kd_core.config.rules import paths_of
from kd_core.data.profiling.columns import profiles
from kd_core.data.profiling.findings import Look, Tokens, find
from kd_core.data.profiling.places import (
    compact,
    files_by_split,
    given_by_split,
    hugging_face_source,
    is_hugging_face,
)
from kd_core.data.profiling.proposal import propose
from kd_core.data.profiling.words import ColumnProfile, Findings, Overview, Request, Roles
from kd_core.data.sources.columns import RowForm
from kd_core.data.sources.files import list_files, read_files
from kd_core.data.sources.huggingface import read_huggingface, whole_table
from kd_core.runtime.errors import InvalidDataError
from kd_core.tables.cells import is_null
from kd_core.tables.reading import read_table

_EVALUATED = ("valid", "calibration", "test")
_REPLACED: tuple[Split, ...] = _EVALUATED  # type: ignore[assignment]

Source = FilesSource | HuggingFaceSource
Tables = list[tuple[str | None, pd.DataFrame]]
"""Split (None: not told) and rows of each file, with the user's columns."""


@dataclass(frozen=True)
class _Files:
    """Where the addresses that the user gave lie on this machine."""

    local: Mapping[str, Path]

    def of(self, source: FilesSource) -> dict[str | None, list[Path]]:
        return {
            split: [self.local.get(path, Path(path)) for path in paths] for split, paths in paths_of(source).items()
        }


def overview(request: Request, local: Mapping[str, Path], tokens: Callable[[], Tokens]) -> Overview:
    """What there is; without findings where something must be asked.

    :param local: address of the request → its place on this machine
    :param tokens: the base's tokenizer, loaded when it is needed
    :raises InvalidDataError: the data set cannot be read, or no recipe could work with it; the message says why
    :raises ParamsError: one of several configurations must be chosen
    """
    files = _Files(local)
    source, notes = _source_of(request, local)
    tables = _tables(source, files)
    seen = [table for split, table in tables if split not in ("unlabelled", *_EVALUATED)]
    rows = pd.concat(seen, ignore_index=True) if seen else pd.DataFrame()
    if rows.empty:
        raise InvalidDataError(f"{', '.join(request.paths)}: no rows")
    if len(rows.columns) == 1 and request.said == Roles():
        raise InvalidDataError(
            f"{', '.join(request.paths)}: one column only ({rows.columns[0]!r}); a recipe needs texts and labels. "
            "Texts alone are for data.pretraining of a recipe that has labelled texts too"
        )
    columns = profiles(rows)
    roles, questions = propose(columns, request.said, request.guess)
    if questions:
        return Overview(
            source=_plain(source), columns=columns, roles=roles, questions=tuple(questions), notes=tuple(notes)
        )
    source, more = _without_labels_aside(source, tables, str(roles.label))
    source = source.model_copy(update={"columns": _columns(roles), **_separator(roles)})
    source, found = _findings(source, files, columns, roles, tokens(), request.min_accuracy)
    return Overview(
        source=_plain(source), columns=columns, roles=roles, questions=(), notes=(*notes, *more), findings=found
    )


def _source_of(request: Request, local: Mapping[str, Path]) -> tuple[Source, list[str]]:
    first, here = request.paths[0], local[request.paths[0]]
    if len(request.paths) > 1:
        by_split = given_by_split(request.paths)
        return _files(compact(by_split) if by_split else request.paths), []
    if first.startswith("s3://") or not here.is_dir():
        return _files(first), []
    if is_hugging_face(here):
        return hugging_face_source(here, request.config)
    by_split = files_by_split(here)
    if by_split is None:
        return _files(first), []
    paths = {split: [str(here / name) for name in names] for split, names in by_split.items()}
    return _files(compact(paths)), []


def _files(paths: object) -> FilesSource:
    return parse(FilesSource, {"kind": "files", "path": paths}, "source")


def _tables(source: Source, files: _Files) -> Tables:
    if isinstance(source, HuggingFaceSource):
        return [(ours, whole_table(source, theirs)) for ours, theirs in source.splits.items()]
    return [(file.split, read_table(file.path)) for file in list_files(files.of(source))[0]]


def _without_labels_aside(source: Source, tables: Tables, label: str) -> tuple[Source, list[str]]:
    """Splits to be tested on that come without a label, as those of competitions do, give texts instead."""
    labelled = {split for split, table in tables if label in table.columns and not table[label].map(is_null).all()}
    there = {split for split, _ in tables}
    bare = [split for split in _REPLACED if split in there and split not in labelled]
    if not bare:
        return source, []
    notes = [f"{' and '.join(bare)} come without labels: used as texts without labels"]
    if isinstance(source, HuggingFaceSource):
        kept = {ours: theirs for ours, theirs in source.splits.items() if ours not in bare}
        kept.setdefault("unlabelled", source.splits[bare[0]])
        return source.model_copy(update={"splits": kept}), notes
    paths = paths_of(source)
    moved = [path for split, given in paths.items() if split in (*bare, "unlabelled") for path in given]
    rest: dict[Split, Sequence[str]] = {split: given for split, given in paths.items() if split and split not in bare}
    return source.model_copy(update={"path": compact({**rest, "unlabelled": moved})}), notes


def _columns(roles: Roles) -> dict[Column, str | None]:
    named: dict[Column, str | None] = {"text": roles.text, "text_pair": roles.text_pair, "label": roles.label}
    return {ours: theirs for ours, theirs in named.items() if theirs is not None}


def _separator(roles: Roles) -> dict[str, str]:
    return {} if roles.separator is None else {"label_separator": roles.separator}


def _findings(
    source: Source,
    files: _Files,
    columns: Sequence[ColumnProfile],
    roles: Roles,
    tokens: Tokens,
    min_accuracy: float | None,
) -> tuple[Source, Findings]:
    """The source, without its ids where these repeat, and what its rows look like."""
    lists = any(column.kind == "lists" for column in columns if column.name == roles.label)
    listed = lists or roles.separator is not None
    rows, notes = _read(source, files, listed)
    if rows["id"].duplicated().any():
        source = source.model_copy(update={"columns": {**source.columns, "id": None}})
        rows, notes = _read(source, files, listed)
        notes = [*notes, "ids in column 'id' repeat: ids are made from the content instead"]
    return source, find(Look(rows, source, roles, listed, notes, min_accuracy), tokens)


def _read(source: Source, files: _Files, listed: bool) -> tuple[pd.DataFrame, list[str]]:
    form = RowForm(
        role="reference",
        columns=source.columns,
        pair="text_pair" in source.columns,
        labelled=True,
        separator=source.label_separator if listed else None,
    )
    if isinstance(source, HuggingFaceSource):
        return read_huggingface(source, source.revision, form)
    return read_files(files.of(source), form)


def _plain(source: Source) -> dict[str, object]:
    """The source as a recipe has it: what is said, without defaults."""
    return source.model_dump(mode="json", exclude_defaults=True) | {"kind": source.kind}
