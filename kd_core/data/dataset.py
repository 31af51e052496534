"""A data set: rows of a source made into groups and splits, with the record of how (`dataset.json`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.config.data import DataParams, Role, SplitParams
from kd_core.config.names import SPLITS
from kd_core.data.splits.assignment import FILL_ORDER, NONE_APPLIES, TRAINING_FIRST, Group, assign, strata_of
from kd_core.data.splits.groups import Cluster, find_clusters
from kd_core.data.splits.ledger import Ledger
from kd_core.data.splits.words import stable_order
from kd_core.rows import label_sets, nulls_as_none, read_rows, rows_hash, write_rows
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.files import write_json

Labels = tuple[str, ...]
"""All labels of a labelled row."""

TRAINING_SIDE = ("train", "unlabelled")
EVALUATION_FIRST = ("test", "calibration", "valid", *TRAINING_SIDE)
"""Where given splits share near-duplicates, the first of these keeps its rows."""


@dataclass
class Plan:
    """Where rows go."""

    splits: list[str | None]
    """Split of each row; None: left out."""
    clusters: dict[str, str]
    """Split of each cluster, by name, for the ledger."""
    notes: list[str]


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
    plan = _plan(rows, clusters, params, role)
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


def _plan(rows: pd.DataFrame, clusters: Sequence[Cluster], params: DataParams, role: Role) -> Plan:
    if params.task is None:
        return Plan(["unlabelled"] * len(rows), {cluster.name: "unlabelled" for cluster in clusters}, [])
    given = nulls_as_none(rows["split"]) if "split" in rows.columns else [None] * len(rows)
    labels = label_sets(rows["label"])
    if set(given) <= {None, "train"}:
        plan = _carve(clusters, labels, params.split)
    else:
        plan = _respect(clusters, labels, [split or "train" for split in given], params.split)
    if params.split.train_per_class is not None:
        _limit_labels(clusters, labels, params.split.train_per_class, params.split.seed, plan)
    return plan


def _carve(clusters: Sequence[Cluster], labels: Sequence[Labels | None], params: SplitParams) -> Plan:
    """Every split is ours to choose; rows without a label are unlabelled text."""
    groups = _groups(clusters, {c.name: c.rows for c in clusters}, labels, set(SPLITS))
    assignment = assign(groups, params)
    plan = Plan([None] * len(labels), assignment.splits, list(assignment.notes))
    dropped = 0
    for cluster in clusters:
        split = assignment.splits[cluster.name]
        for row in cluster.rows:
            if labels[row] is not None:
                plan.splits[row] = split
            elif split in TRAINING_SIDE:
                plan.splits[row] = "unlabelled"
            else:
                dropped += 1
    if dropped:
        plan.notes.append(f"{dropped} texts without a label left out: near-duplicates of evaluation rows")
    return plan


def _respect(
    clusters: Sequence[Cluster], labels: Sequence[Labels | None], given: Sequence[str], params: SplitParams
) -> Plan:
    """The user's splits stay; near-duplicates across them leave the training side; missing splits come out of train."""
    plan = Plan([None] * len(labels), {}, [])
    straddling = seen_before = 0
    for cluster in clusters:
        winner = min({given[row] for row in cluster.rows}, key=EVALUATION_FIRST.index)
        side = TRAINING_SIDE if winner in TRAINING_SIDE else (winner,)
        kept = [row for row in cluster.rows if given[row] in side]
        straddling += len(cluster.rows) - len(kept)
        plan.clusters[cluster.name] = winner
        trained_on = cluster.earlier - {"test"}
        if winner == "test" and trained_on:
            seen_before += len(kept)
            kept = []
            plan.clusters[cluster.name] = min(trained_on, key=TRAINING_FIRST.index)
        for row in kept:
            plan.splits[row] = given[row]
    if straddling:
        plan.notes.append(f"{straddling} rows left out: near-duplicates of rows in an evaluation split")
    if seen_before:
        plan.notes.append(f"{seen_before} rows left out of test: in another split in an earlier revision")
    _carve_missing(clusters, labels, given, params, plan)
    return plan


def _carve_missing(
    clusters: Sequence[Cluster], labels: Sequence[Labels | None], given: Sequence[str], params: SplitParams, plan: Plan
) -> None:
    missing = [split for split in FILL_ORDER if split not in given]
    counted = params.train >= 1
    to_fill = [split for split in FILL_ORDER if split in missing or (split == "train" and counted)]
    ours = [cluster for cluster in clusters if plan.clusters[cluster.name] == "train"]
    if not to_fill or not ours:
        return
    train_rows = {c.name: [r for r in c.rows if plan.splits[r] == "train"] for c in ours}
    allowed = {*missing, *TRAINING_SIDE}
    groups = _groups(ours, train_rows, labels, allowed)
    assignment = assign(groups, params, to_fill, rest="unlabelled" if counted else "train")
    plan.notes += assignment.notes
    plan.clusters |= assignment.splits
    for cluster in ours:
        split = assignment.splits[cluster.name]
        for row in cluster.rows:
            if plan.splits[row] == "train":
                plan.splits[row] = split
            elif split not in TRAINING_SIDE:
                plan.splits[row] = None


def _limit_labels(
    clusters: Sequence[Cluster], labels: Sequence[Labels | None], most: int, seed: int, plan: Plan
) -> None:
    """Training rows past the first `most` of a class become unlabelled text; a larger number keeps those of a smaller.

    A row with several labels stays if it is among the first of any of them, so that none has fewer rows than it may.
    """
    seen: Counter[str] = Counter()
    dropped = 0
    for position in stable_order(seed, [cluster.name for cluster in clusters]):
        for row in clusters[position].rows:
            if plan.splits[row] != "train":
                continue
            own = labels[row] or (NONE_APPLIES,)
            if all(seen[label] >= most for label in own):
                plan.splits[row] = "unlabelled"
                dropped += 1
            seen.update(own)
    plan.notes.append(f"{dropped} training rows became unlabelled text: at most {most} labels a class")


def _groups(
    clusters: Sequence[Cluster],
    rows: Mapping[str, Sequence[int]],
    labels: Sequence[Labels | None],
    allowed: Collection[str],
) -> list[Group]:
    """The clusters as groups of the rows that count, by cluster name; earlier splits as far as they are allowed."""
    strata = strata_of(labels)
    groups = []
    for cluster in clusters:
        own = tuple(stratum for row in rows[cluster.name] if (stratum := strata[row]) is not None)
        every = frozenset(label for row in rows[cluster.name] for label in labels[row] or ())
        groups.append(Group(cluster.name, own, cluster.earlier.intersection(allowed), every.difference(own)))
    return groups


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
