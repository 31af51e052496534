"""A data set: rows of a source made into groups and splits, with the record of how (`dataset.json`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.config.data import DataParams, Role
from kd_core.config.names import SPLITS
from kd_core.data.splits.assignment import NONE_APPLIES
from kd_core.data.splits.groups import find_clusters
from kd_core.data.splits.ledger import Ledger
from kd_core.data.splits.plan import plan_splits
from kd_core.rows import label_sets, read_rows, rows_hash, write_rows
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.files import write_json


@dataclass(frozen=True)
class Dataset:
    """The five splits of one role, the ledger after them, and notes for a person."""

    splits: Mapping[str, pd.DataFrame]
    ledger: Ledger
    unlabelled_from: str | None = None
    """`train` where the source has no unlabelled text and the training texts stand in; otherwise None."""
    notes: Sequence[str] = field(default_factory=tuple)


def build_dataset(rows: pd.DataFrame, params: DataParams, earlier: Ledger, revision: str, role: Role) -> Dataset:
    """Group and split the rows of a source.

    `rows`: id, text, text_pair?, label, and optionally `split` (given by the user) and `link` (rows that belong
    together). Raises InvalidDataError if there are no rows or too few for the splits.
    """
    if rows.empty:
        raise InvalidDataError(f"data.{role}: the source has no rows")
    similarity = params.validation.duplicate_similarity
    if similarity <= 0:
        raise ParamsError(f"data.{role}.validation.duplicate_similarity: must be above 0")
    rows = rows.sort_values("id", kind="stable", ignore_index=True)
    clusters = find_clusters(rows, earlier, similarity)
    plan = plan_splits(rows, clusters, params, role)
    names = {position: cluster.name for cluster in clusters for position in cluster.rows}
    rows["group"] = pd.Series([names[position] for position in range(len(rows))], dtype=object)
    frames = _frames(rows, plan.splits)
    stands_in = frames["unlabelled"].empty and not frames["train"].empty
    if stands_in:
        frames["unlabelled"] = _without_labels(frames["train"])
    known = dict(earlier.splits)
    for cluster in clusters:
        known.update(dict.fromkeys(cluster.words, plan.clusters[cluster.name]))
    shares = None if params.task is None else label_shares(rows["label"])
    return Dataset(frames, Ledger(known, revision, shares), "train" if stands_in else None, tuple(plan.notes))


def label_shares(labels: pd.Series) -> dict[str, float]:
    """Share of each label among all labels of the rows; a row to which none applies counts as one, NONE_APPLIES."""
    counts = _label_counts(labels)
    total = sum(counts.values())
    return {label: round(count / total, 6) for label, count in counts.items()}


def _frames(rows: pd.DataFrame, splits: Sequence[str | None]) -> dict[str, pd.DataFrame]:
    columns = [name for name in ("id", "group", "text", "text_pair", "label") if name in rows.columns]
    frames = {}
    for name in SPLITS:
        chosen = [position for position, split in enumerate(splits) if split == name]
        frames[name] = rows.loc[chosen, columns].reset_index(drop=True)
    frames["unlabelled"] = _without_labels(frames["unlabelled"])
    return frames


def _without_labels(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(label=pd.Series([None] * len(frame), dtype=object))


def write_splits(folder: Path, splits: Mapping[str, pd.DataFrame], record: Mapping[str, Any]) -> None:
    """Write all five splits and `dataset.json`: `record` with counts, labels and the hash over all rows added."""
    for name in SPLITS:
        write_rows(folder / f"{name}.parquet", splits[name])
    described = {
        **record,
        "counts": {name: len(splits[name]) for name in SPLITS},
        "labels": {name: _label_counts(splits[name]["label"]) for name in SPLITS},
        "hash": fingerprint.of_value({name: rows_hash(splits[name]) for name in SPLITS}),
    }
    write_json(folder / "dataset.json", described)


def read_splits(folder: Path) -> tuple[dict[str, pd.DataFrame], dict[str, Any]]:
    """The five splits and `dataset.json`. Raises InvalidDataError naming the file that is missing or broken."""
    path = folder / "dataset.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError) as error:
        raise InvalidDataError(f"{path}: missing or broken ({error}); run ingest again") from None
    return {name: read_rows(folder / f"{name}.parquet") for name in SPLITS}, record


def _label_counts(labels: pd.Series) -> dict[str, int]:
    """Label → rows that have it, by name."""
    rows = [row or (NONE_APPLIES,) for row in label_sets(labels) if row is not None]
    return dict(sorted(Counter(label for row in rows for label in row).items()))
