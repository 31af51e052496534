"""Which split each row goes to: carved from all rows, or as the user gave them; and how many labels training keeps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from kd_core.config.data import DataParams, Role, SplitParams
from kd_core.config.names import SPLITS
from kd_core.data.splits.assignment import FILL_ORDER, NONE_APPLIES, TRAINING_FIRST, Group, assign, strata_of
from kd_core.data.splits.groups import Cluster
from kd_core.data.splits.words import stable_order
from kd_core.rows import label_sets, nulls_as_none

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


def plan_splits(rows: pd.DataFrame, clusters: Sequence[Cluster], params: DataParams, role: Role) -> Plan:
    """The split of each row and of each cluster. Raises InvalidDataError where the rows are too few for the splits."""
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
