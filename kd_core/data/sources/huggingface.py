"""Rows from a Hugging Face data set: on the hub at a pinned commit, or a local folder. No code of it is ever run.

(`datasets` from version 4 on reads data files only; its former `trust_remote_code` is gone.)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.config.data import HuggingFaceSource, Role
from kd_core.data.sources.files import to_rows, with_ids
from kd_core.runtime.errors import InvalidDataError


def read_huggingface(
    source: HuggingFaceSource, revision: str, role: Role, pair: bool, labelled: bool, separator: str | None = None
) -> pd.DataFrame:
    """The rows of the splits that `source` names: id, text, text_pair?, label, split.

    `revision` is the commit to read; `separator`: see `to_rows`. Class numbers become class names. Raises
    InvalidDataError naming the data set.
    """
    frames = []
    for ours, theirs in source.splits.items():
        data = _load(source, theirs, revision)
        records = {name: list(data[name]) for name in data.column_names}
        theirs_label = source.columns.get("label", "label")
        feature = data.features.get(theirs_label)
        names = getattr(getattr(feature, "feature", feature), "names", None)  # of a list: those of its elements
        if names is not None:
            records[theirs_label] = [_named(number, names) for number in records[theirs_label]]
        with_label = labelled and ours != "unlabelled"
        where = f"{source.name} ({theirs})"
        found = to_rows(records, source.columns, where, role, pair, with_label, separator)
        frames.append(found.assign(split=ours))
    rows = pd.concat(frames, ignore_index=True)
    if rows.empty:
        raise InvalidDataError(f"data.{role}.source: {source.name} has no rows")
    return with_ids(rows)


def _named(number: Any, names: Sequence[str]) -> Any:
    """The name of a class number, or those of a list of them; -1 stands for a missing label."""
    if isinstance(number, list):
        return [_named(each, names) for each in number]
    return names[number] if number is not None and number >= 0 else None


def _load(source: HuggingFaceSource, split: str, revision: str) -> Any:
    import datasets

    local = Path(source.name).is_dir()
    try:
        return datasets.load_dataset(source.name, source.config, split=split, revision=None if local else revision)
    except (ValueError, FileNotFoundError, datasets.exceptions.DatasetsError) as error:
        raise InvalidDataError(
            f"{source.name}: cannot read split {split!r} at revision {revision}: {error}; "
            "correct name, config, splits or revision of the data source"
        ) from None
