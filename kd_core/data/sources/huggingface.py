"""Rows from a Hugging Face data set: on the hub at a pinned commit, or a local folder. No code of it is ever run.

(`datasets` from version 4 on reads data files only; its former `trust_remote_code` is gone.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.config.data import HuggingFaceSource, Role
from kd_core.data.sources.class_names import check_class_names, parquet_files
from kd_core.data.sources.columns import RowForm, theirs, to_rows
from kd_core.data.sources.ids import Part, joined
from kd_core.runtime.errors import InvalidDataError


def read_huggingface(source: HuggingFaceSource, revision: str, form: RowForm) -> tuple[pd.DataFrame, list[str]]:
    """The rows of the splits that `source` names, and notes: id, text, text_pair?, label, split.

    `revision` is the commit to read. Class numbers become class names. Raises InvalidDataError naming the data set.
    """
    _check_splits(source, form.role)
    label = theirs(form.columns, "label")
    parts: list[Part] = []
    for ours, split in source.splits.items():
        data, files = _load(source, split, revision)
        wanted = form.of_split(ours)
        if wanted.labelled and (names := _class_names(data, label)) is not None:
            check_class_names(files, label, names, source.name)
        table = _table(data, [theirs(form.columns, name) for name in ("id", "text", "text_pair", "label")], label)
        found = to_rows(table, wanted, f"{source.name} ({split})")
        parts.append((split, found.assign(split=ours)))
    rows, notes = joined(parts, theirs(form.columns, "id"))
    if rows.empty:
        raise InvalidDataError(f"data.{form.role}.source: {source.name} has no rows")
    return rows, notes


def configs_of(name: str) -> list[str]:
    """The configurations (subsets) of a data set. Raises InvalidDataError where it cannot be read."""
    import datasets

    try:
        return list(datasets.get_dataset_config_names(name))
    except _unreadable() as error:
        raise InvalidDataError(f"{name}: no data set that can be read: {error}") from None


def splits_of(name: str, config: str | None) -> list[str]:
    """The names of its splits. Raises InvalidDataError where it cannot be read."""
    import datasets

    try:
        return list(datasets.get_dataset_split_names(name, config))
    except _unreadable() as error:
        raise InvalidDataError(f"{name}: no data set that can be read: {error}") from None


def whole_table(source: HuggingFaceSource, split: str) -> pd.DataFrame:
    """All columns of one of its splits that hold values or lists of them; class numbers as names."""
    import datasets

    data, _ = _load(source, split, source.revision)
    plain = (datasets.Value, datasets.ClassLabel, datasets.List, datasets.LargeList)
    names = [name for name, feature in data.features.items() if isinstance(feature, plain)]
    columns = {}
    for name in names:
        classes = _class_names(data, name)
        cells = list(data[name])
        columns[name] = cells if classes is None else [_named(cell, classes) for cell in cells]
    return pd.DataFrame({name: pd.Series(cells, dtype=object) for name, cells in columns.items()})


def _check_splits(source: HuggingFaceSource, role: Role) -> None:
    taken: dict[str, str] = {}
    for ours, split in source.splits.items():
        if ours != "unlabelled" and split in taken:
            raise InvalidDataError(
                f"data.{role}.source.splits: {taken[split]} and {ours} are the same split ({split!r}) of "
                f"{source.name}; give each rows of its own, or name train alone and let the others be made of it"
            )
        taken[split] = ours


def _table(data: Any, wanted: Sequence[str], label: str) -> pd.DataFrame:
    """The columns that are there of those wanted, class numbers as names; others, such as images, are not decoded."""
    there = [name for name in dict.fromkeys(wanted) if name in data.column_names]
    cells = {name: list(data[name]) for name in there}
    names = _class_names(data, label)
    if names is not None and label in cells:
        cells[label] = [_named(number, names) for number in cells[label]]
    columns = {name: pd.Series(column, dtype=object) for name, column in cells.items()}
    rest = {name: pd.Series([None] * len(data), dtype=object) for name in data.column_names if name not in there}
    return pd.DataFrame({**columns, **rest})


def _class_names(data: Any, column: str) -> Sequence[str] | None:
    """The names behind a column's numbers, or those in its lists; None if it holds no classes."""
    feature = data.features.get(column)
    names: Sequence[str] | None = getattr(getattr(feature, "feature", feature), "names", None)
    return names


def _named(number: Any, names: Sequence[str]) -> Any:
    """The name of a class number, or those of a list of them; -1 stands for a missing label."""
    if isinstance(number, list):
        return [_named(each, names) for each in number]
    return names[number] if number is not None and number >= 0 else None


def _load(source: HuggingFaceSource, split: str, revision: str) -> tuple[Any, list[str]]:
    """The split, and the Parquet files that it was read from."""
    import datasets

    pinned = None if Path(source.name).is_dir() else revision
    try:
        data = datasets.load_dataset(source.name, source.config, split=split, revision=pinned)
        builder = datasets.load_dataset_builder(source.name, source.config, revision=pinned)
        return data, list(parquet_files(builder, split))
    except _unreadable() as error:
        raise InvalidDataError(
            f"{source.name}: cannot read split {split!r} at revision {revision}: {error}; "
            "correct name, config, splits or revision of the data source"
        ) from None


def _unreadable() -> tuple[type[Exception], ...]:
    """What `datasets` raises where a data set is not what its name, files or card say."""
    import datasets

    return (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError)
