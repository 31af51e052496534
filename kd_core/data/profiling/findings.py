"""What the rows of a data set look like, read, grouped and split as a run will do it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from kd_core.config.base import parse
from kd_core.config.data import DataParams, Role, Source, ValidationParams
from kd_core.data.contradictions import contradictions, note_of
from kd_core.data.profiling.columns import one_line
from kd_core.data.profiling.dry_run import as_a_run_would, proposed_sizes
from kd_core.data.profiling.faults import faults, is_of_text, told, tolerances, too_many
from kd_core.data.profiling.labels import counted, label_warnings
from kd_core.data.profiling.lengths import CountTokens, lengths
from kd_core.data.profiling.proposal import MOST_LABELS
from kd_core.data.profiling.words import Findings, Roles
from kd_core.rows import label_sets, nulls_as_none
from kd_core.runtime.errors import InvalidDataError
from kd_core.tasks.columns.choosing import kind_for

_VALIDATION = parse(ValidationParams, {}, "")
"""What a recipe says that says nothing of it."""
_ONE_TEXT = 0.05
"""Share of the rows that have the same text."""
_TRAINING_SIDE = (None, "train", "unlabelled")
"""Splits whose texts stage one learns from; None: rows come without a split."""
_MANY_TEXTS = 50_000
_PROVEN = 299
"""Calibration rows that prove a disagreement of 1 % at 95 %."""


@dataclass(frozen=True)
class Tokens:
    """Counts the tokens of texts as the student's base does."""

    count: CountTokens
    most: int | None
    """Positions of the base."""


@dataclass(frozen=True)
class Look:
    """Rows as training reads them, and what they were read as."""

    rows: pd.DataFrame
    """id, text, text_pair?, label, split."""
    source: Source
    roles: Roles
    listed: bool
    """Whether a row may have several labels."""
    notes: Sequence[str] = field(default_factory=tuple)
    min_accuracy: float | None = None
    """What the gate asks for by default."""


def find(look: Look, tokens: Tokens) -> Findings:
    """Everything that a person should know. Raises InvalidDataError where no recipe could work with these rows."""
    labels = counted(label_sets(look.rows["label"]))
    _check_labels(labels, look)
    wrong = faults(look.rows, labels, _VALIDATION)
    good = _usable(look, wrong)
    max_length, counts = lengths(good, tokens.count, tokens.most)
    pair, split = "text_pair" in good.columns, proposed_sizes(good)
    task = {"kind": kind_for(look.listed), "labels": list(labels), "pair": pair, "max_length": max_length}
    data = {"source": look.source.model_dump(), "task": task, "split": split or {}}
    params = parse(DataParams, data, "data.reference")
    run = as_a_run_would(good, params)
    faulty, rows = _by_role(look.rows, wrong)
    repeated = int(good.duplicated(subset=_text_columns(good)).sum())
    warnings = [
        *([f"{told(wrong)}: set aside, not lost"] if any(wrong) else []),
        *label_warnings(labels, str(look.roles.label), look.listed, look.min_accuracy),
        *_text_warnings(good, repeated),
        *note_of(contradictions(good)),
        *_size_warnings(run.sizes, rows["pretraining"], run.notes),
        *look.notes,
    ]
    return Findings(
        kind=kind_for(look.listed),
        rows=len(look.rows),
        unlabelled=sum(row is None for row in label_sets(look.rows["label"])),
        labels=labels,
        tokens=counts,
        max_length=max_length,
        split=split,
        sizes=run.sizes,
        repeated=repeated,
        near=run.near,
        looked_at=run.compared,
        faulty=faulty,
        tolerance=tolerances(faulty, rows, _VALIDATION),
        warnings=tuple(warnings),
    )


def _usable(look: Look, wrong: Sequence[str | None]) -> pd.DataFrame:
    if too_many(wrong):
        raise InvalidDataError(
            f"more than half of the rows cannot be used: {told(wrong)}; look at the columns --text and --label"
        )
    good = look.rows[[fault is None for fault in wrong]].reset_index(drop=True)
    _check_texts(good, look.roles)
    return good


def _by_role(rows: pd.DataFrame, wrong: Sequence[str | None]) -> tuple[dict[Role, int], dict[Role, int]]:
    """Faulty rows, and all rows, of the reference data and of the texts that stage one takes from it."""
    texts = [fault for fault, split in zip(wrong, rows["split"], strict=True) if split in _TRAINING_SIDE]
    faulty: dict[Role, int] = {
        "reference": sum(fault is not None for fault in wrong),
        "pretraining": sum(map(is_of_text, texts)),
    }
    return faulty, {"reference": len(wrong), "pretraining": len(texts)}


def _check_labels(labels: Mapping[str, int], look: Look) -> None:
    where = f"column {look.roles.label!r}"
    if len(labels) < 2:
        there = f"one label only ({one_line(next(iter(labels)))!r})" if labels else "no labels"
        raise InvalidDataError(f"{where} has {there}; a classifier needs at least two: name another with --label")
    if len(labels) > MOST_LABELS:
        raise InvalidDataError(
            f"{where} has {len(labels):,} different labels, more than the {MOST_LABELS:,} that are taken; it may be "
            "free text or an id: name another column with --label, or put rare labels together"
        )


def _check_texts(rows: pd.DataFrame, roles: Roles) -> None:
    if rows[_text_columns(rows)].drop_duplicates().shape[0] < 2:
        raise InvalidDataError(f"column {roles.text!r} has the same text in every row; name another with --text")


def _text_warnings(rows: pd.DataFrame, repeated: int) -> Iterator[str]:
    if repeated:
        yield f"{repeated:,} rows repeat the text of an earlier row: they stay on one side of the splits"
    counts = Counter(nulls_as_none(rows["text"]))
    text, times = counts.most_common(1)[0]
    if times > 1 and times >= _ONE_TEXT * len(rows) and text is not None:
        yield f"{times:,} of {len(rows):,} rows have the same text: {one_line(text)!r}"


def _size_warnings(sizes: Mapping[str, int], texts: int, notes: Sequence[str]) -> Iterator[str]:
    if texts > _MANY_TEXTS:
        yield f"stage one reads {texts:,} texts in each epoch: give data.pretraining fewer if that takes too long"
    if sizes["calibration"] < _PROVEN:
        yield (
            f"{sizes['calibration']} calibration rows: early exits that differ in at most 1 % of the answers take "
            f"{_PROVEN} to prove, so the full model may answer every text"
        )
    yield from notes


def _text_columns(rows: pd.DataFrame) -> list[str]:
    return [name for name in ("text", "text_pair") if name in rows.columns]
