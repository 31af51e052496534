"""Validation of a data set: bad rows set aside with the reason, and when there are too many, a message for a person."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from kd_core.config.data import DataParams, Role
from kd_core.config.names import SPLITS
from kd_core.data.checks.empty_splits import explain_empty
from kd_core.data.checks.expectations import (
    KEPT_APART,
    LABEL_SHIFT,
    NEAR_DUPLICATE_OF,
    ROW,
    SuiteResult,
    id_reason,
    run_dataset_suite,
    run_row_suite,
)
from kd_core.data.splits.near_duplicates import near_duplicates_of
from kd_core.data.splits.words import row_words
from kd_core.rows import label_sets, nulls_as_none

EVALUATION = ("test", "calibration", "valid")
"""Splits whose near-duplicates may not stand in a split named later, nor in pre-training texts."""

_EXAMPLES = 3
_EXCERPT = 200
"""Characters of a rejected text that are shown."""


@dataclass(frozen=True)
class Verdict:
    """What validation found."""

    kept: Mapping[str, pd.DataFrame]
    rejected: pd.DataFrame
    """Columns: split, row (from 0 in the split's raw file), id, reason, label, text (its first 200 characters)."""
    suites: Sequence[SuiteResult]
    summary: Mapping[str, Any]
    problems: Sequence[str] = field(default_factory=tuple)
    """Why the run must stop; empty if it need not."""


def validate(
    splits: Mapping[str, pd.DataFrame],
    record: Mapping[str, Any],
    params: DataParams,
    role: Role,
    protected: pd.DataFrame | None = None,
) -> Verdict:
    """Check one role's splits (`record`: its dataset.json).

    `protected` are rows of another data set's evaluation splits: near-duplicates of them are kept apart.
    """
    standing_in = record.get("unlabelled_from") == "train"
    frame = _stack({name: splits[name] for name in SPLITS if not (standing_in and name == "unlabelled")})
    frame[NEAR_DUPLICATE_OF] = _near_duplicates(frame, protected, params.validation.duplicate_similarity)
    by_row = run_row_suite(frame, params) if len(frame) else None
    reasons = _reasons(by_row)
    rejected = _rejected(frame, reasons)
    kept = frame[~frame[ROW].isin(reasons)]
    shift = label_shift(record.get("label_shares"), (record.get("previous") or {}).get("label_shares"))
    whole = run_dataset_suite(kept.assign(**{LABEL_SHIFT: shift}).explode("label"), params, role)
    faulty = sum(any(reason != KEPT_APART for reason in found) for found in reasons.values())
    counts = Counter(reason for found in reasons.values() for reason in found)
    summary = {
        "rows": len(frame),
        "set_aside": dict(sorted(counts.items())),
        "faulty_rows": faulty,
        "label_shift": shift,
        "tolerance": params.validation.tolerance,
    }
    problems = _explain(whole, kept, params, role, shift, record.get("notes") or ())
    if len(frame) and faulty / len(frame) > params.validation.tolerance:
        problems.insert(0, _too_many(faulty, len(frame), counts, rejected, params, role))
    suites = [suite for suite in (by_row, whole) if suite is not None]
    return Verdict(_unstack(kept, splits, standing_in), rejected, suites, summary, tuple(problems))


def label_shift(now: Mapping[str, float] | None, before: Mapping[str, float] | None) -> float:
    """Total variation distance of two label distributions, ½ Σ |p − q|, in [0, 1]; 0 if there is none before."""
    if not now or not before:
        return 0.0
    return round(sum(abs(now.get(label, 0.0) - before.get(label, 0.0)) for label in {*now, *before}) / 2, 6)


def _stack(splits: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    frames = [frame.assign(split=name, split_row=range(len(frame))) for name, frame in splits.items()]
    stacked = pd.concat(frames, ignore_index=True)
    return stacked.assign(**{ROW: range(len(stacked))})


def _unstack(kept: pd.DataFrame, splits: Mapping[str, pd.DataFrame], standing_in: bool) -> dict[str, pd.DataFrame]:
    frames = {name: kept.loc[kept["split"] == name, list(splits[name].columns)] for name in SPLITS}
    if standing_in:
        empty = pd.Series([None] * len(frames["train"]), dtype=object, index=frames["train"].index)
        frames["unlabelled"] = frames["train"].assign(label=empty)
    return {name: frame.reset_index(drop=True) for name, frame in frames.items()}


def _near_duplicates(frame: pd.DataFrame, protected: pd.DataFrame | None, similarity: float) -> pd.Series:
    """For each row the id of a row that it may not stand beside: `split/id`, or null."""
    words = row_words(frame)
    names = [f"{split}/{key}" for split, key in zip(frame["split"], frame["id"], strict=True)]
    found: list[str | None] = [None] * len(frame)
    order = {split: rank for rank, split in enumerate([*EVALUATION, "train", "unlabelled"])}
    ranks = [order[split] for split in frame["split"]]
    for rank in range(len(EVALUATION)):
        queries = [i for i in range(len(frame)) if ranks[i] > rank and found[i] is None]
        targets = [i for i in range(len(frame)) if ranks[i] == rank and found[i] is None]
        matches = near_duplicates_of([words[i] for i in queries], [words[i] for i in targets], similarity)
        for query, match in zip(queries, matches, strict=True):
            found[query] = None if match is None else names[targets[match]]
    if protected is not None and len(protected):
        matches = near_duplicates_of(words, row_words(protected), similarity)
        ids = protected["id"].tolist()
        found = [mine or (None if m is None else f"reference/{ids[m]}") for mine, m in zip(found, matches, strict=True)]
    return pd.Series(found, dtype=object, index=frame.index)


def _reasons(suite: SuiteResult | None) -> dict[int, list[str]]:
    reasons: defaultdict[int, list[str]] = defaultdict(list)
    for check in suite.checks if suite else ():
        for row in check.rows:
            if check.reason not in reasons[row]:
                reasons[row].append(check.reason)
    return dict(reasons)


def _rejected(frame: pd.DataFrame, reasons: Mapping[int, Sequence[str]]) -> pd.DataFrame:
    rows = frame[frame[ROW].isin(reasons)]
    texts = [None if text is None else text[:_EXCERPT] for text in nulls_as_none(rows["text"])]
    why = []
    for row, other in zip(rows[ROW], nulls_as_none(rows[NEAR_DUPLICATE_OF]), strict=True):
        why.append("; ".join(f"{r} ({other})" if r == KEPT_APART else r for r in sorted(reasons[row])))
    columns = {"split": rows["split"], "row": rows["split_row"], "id": rows["id"], "reason": why}
    return pd.DataFrame({**columns, "label": rows["label"], "text": texts}).reset_index(drop=True)


def _explain(
    whole: SuiteResult, kept: pd.DataFrame, params: DataParams, role: Role, shift: float, notes: Sequence[str]
) -> list[str]:
    failed = {check.reason for check in whole.checks if not check.success}
    problems = []
    if "the data set is empty" in failed:
        return [f"data.{role}: no row is left; look at the source and its columns"]
    if "a split is empty" in failed:
        problems.append(explain_empty(kept, params, role, notes))
    if "a class has no training row" in failed and params.task is not None:
        seen = _labels(kept.loc[kept["split"] == "train", "label"])
        missing = [label for label in params.task.labels if label not in seen]
        problem = (
            "has one class only" if len(seen) == 1 else f"lacks {len(missing)} of {len(params.task.labels)} classes"
        )
        problems.append(
            f"data.{role}: the training split {problem}: there {_listed(sorted(seen))}; missing {_listed(missing)}; "
            f"bring rows of these classes, raise data.{role}.split.train, or correct data.{role}.task.labels"
        )
    if "the label distribution has shifted" in failed:
        problems.append(
            f"data.{role}: the label distribution is {shift:.3f} away (total variation) from the previous revision's, "
            f"more than data.{role}.validation.max_label_shift = {params.validation.max_label_shift}; "
            "look at what changed at the source, or raise the bound"
        )
    return problems


def _too_many(
    faulty: int, rows: int, counts: Counter[str], rejected: pd.DataFrame, params: DataParams, role: Role
) -> str:
    reasons = "".join(f"\n  {n} × {reason}" for reason, n in counts.most_common() if reason != KEPT_APART)
    faults = rejected[~rejected["reason"].str.startswith(KEPT_APART)]
    known = set(params.task.labels) if params.task is not None else set()
    unknown = sorted(_labels(faults.loc[faults["reason"].str.contains("label outside"), "label"]) - known)
    examples = "".join(
        f"\n  {row['split']} row {row['row']} (id {row['id']}): {row['reason']}"
        for row in faults.head(_EXAMPLES).to_dict("records")
    )
    return (
        f"data.{role}: {faulty} of {rows} rows ({faulty / rows:.1%}) are faulty, more than "
        f"data.{role}.validation.tolerance = {params.validation.tolerance:.1%}:{reasons}"
        + (f"\nunknown labels: {_listed(unknown)}" if unknown else "")
        + f"\nfirst of them:{examples}\ncorrect these rows at the source, or raise the tolerance"
        + (
            f"; where the column holds no ids: data.{role}.source.columns.id: null"
            if id_reason(params) in counts
            else ""
        )
    )


def _labels(column: pd.Series) -> set[str]:
    return {label for row in label_sets(column) for label in row or ()}


def _listed(names: Sequence[str], most: int = 8) -> str:
    shown = ", ".join(map(repr, names[:most])) or "none"
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
