"""Groups and splits rows as a run will do it, before there is a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from kd_core.config.base import parse
from kd_core.config.data import DataParams, SplitParams
from kd_core.data.dataset import build_dataset
from kd_core.data.splits.assignment import FILL_ORDER
from kd_core.data.splits.ledger import Ledger
from kd_core.data.splits.words import stable_order
from kd_core.rows import label_sets
from kd_core.runtime.errors import InvalidDataError

_COMPARED = 20_000
"""Rows that are compared for near-duplicates, drawn by a hash."""
_MANY_ROWS = 20_000
"""Labelled rows beyond which not all are proposed for training with labels: teachers learn from each of them."""
_SIZES = {"train": 10_000, "valid": 1_000, "calibration": 1_000, "test": 2_000}


def proposed_sizes(rows: pd.DataFrame) -> dict[str, int] | None:
    """Sizes in rows where there are so many that the teachers would learn from them for hours."""
    labelled = rows[[row is not None for row in label_sets(rows["label"])]]
    if len(labelled) <= _MANY_ROWS:
        return None
    given = {split for split in labelled["split"] if split}
    return {split: size for split, size in _SIZES.items() if split == "train" or split not in given}


@dataclass(frozen=True)
class DryRun:
    """What a run will make of the rows."""

    sizes: Mapping[str, int]
    """Rows of each split."""
    near: int
    """Rows in groups of near-duplicates."""
    compared: int
    notes: Sequence[str]


def as_a_run_would(rows: pd.DataFrame, params: DataParams) -> DryRun:
    """Group and split the rows; of very many, a part. Raises InvalidDataError for an empty split."""
    part = rows.iloc[sorted(stable_order(0, rows["id"].tolist())[:_COMPARED])] if len(rows) > _COMPARED else rows
    whole = len(part) == len(rows)
    tried = params if whole else params.model_copy(update={"split": parse(SplitParams, {}, "split")})
    dataset = build_dataset(part.reset_index(drop=True), tried, Ledger(), "", "reference")
    frames = {name: frame for name, frame in dataset.splits.items() if not _stands_in(name, dataset.unlabelled_from)}
    sizes = {name: len(frame) for name, frame in frames.items()}
    groups = Counter(group for frame in frames.values() for group in frame["group"])
    near = sum(times for times in groups.values() if times > 1)
    if empty := [split for split in FILL_ORDER if not sizes[split]]:
        labelled = sum(row is not None for row in label_sets(part["label"]))
        raise InvalidDataError(
            f"{labelled} labelled rows, in {len(groups)} groups of near-duplicates, are too few: nothing would be left "
            f"for {' and '.join(empty)}; bring more rows"
        )
    return DryRun(sizes if whole else _scaled(sizes, len(rows), params.split), near, len(part), dataset.notes)


def _scaled(sizes: Mapping[str, int], rows: int, params: SplitParams) -> dict[str, int]:
    """Sizes in a part, as they will be in all rows: in proportion, but for those that are asked for in rows."""
    part = sum(sizes.values())
    asked = {split: int(getattr(params, split)) for split in FILL_ORDER if getattr(params, split) >= 1}
    scaled = {split: round(size * rows / part) for split, size in sizes.items()} | asked
    return scaled | {"unlabelled": rows - sum(size for split, size in scaled.items() if split != "unlabelled")}


def _stands_in(split: str, unlabelled_from: str | None) -> bool:
    return split == "unlabelled" and unlabelled_from is not None
