"""A stage's score table: one teacher's logits for exactly the rows of the stage, and the check before they are used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.config.data import Kind
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.files import write_json
from kd_core.tasks.kinds import kind_in
from kd_core.tasks.units import Units
from kd_core.teachers.logit_columns import from_column, to_column
from kd_core.teachers.score_keys import ScoreSpec, row_keys, text_hash

TABLE, RECORD = "scores.parquet", "scores.json"

_COMPARED = {
    "teacher": ("name", "teacher"),
    "fingerprint": ("fingerprint", "teacher fingerprint"),
    "labels": ("task_labels", "labels"),
    "kind": ("kind", "kind of task"),
    "pair": ("pair", "pair"),
    "max_length": ("max_length", "max_length"),
    "precision": ("precision", "precision"),
}
"""Field of scores.json → field of teacher.json, and what it is called in a message."""


def write_scores(
    folder: Path,
    teacher: str,
    spec: ScoreSpec,
    frames: Mapping[str, pd.DataFrame],
    logits: Units,
    kind: Kind,
    bf16_difference: Mapping[str, Any] | None = None,
) -> None:
    """Write scores.parquet (id, split, key of the text, logits [U · C] per row) and scores.json to `folder`.

    `frames` are the splits' rows in the order of `logits` [ΣU, C]; `kind` is what those stand for, `bf16_difference`
    what faster arithmetic cost.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = [key for frame in frames.values() for key in row_keys(frame, spec.pair)]
    columns = {
        "id": pa.array([row for frame in frames.values() for row in frame["id"]], pa.string()),
        "split": pa.array([name for name, frame in frames.items() for _ in range(len(frame))], pa.string()),
        "key": pa.array(keys, pa.string()),
        "logits": to_column(logits),
    }
    pq.write_table(pa.table(columns), folder / TABLE, compression="zstd")
    record = {
        "teacher": teacher,
        "kind": kind,
        "fingerprint": spec.fingerprint,
        "labels": list(spec.labels),
        "tokenizer": spec.tokenizer,
        "pair": spec.pair,
        "max_length": spec.max_length,
        "precision": spec.precision,
        "scorer_version": spec.scorer_version,
        "text_hash": text_hash(keys),
        "rows": len(keys),
        "bf16_difference": bf16_difference,
    }
    write_json(folder / RECORD, record)


def read_scores(folder: Path, teacher_record: Mapping[str, Any], rows: pd.DataFrame) -> Units:
    """Logits [ΣU, C] in fp32 for `rows`, in their order; rows may be any part of those that were scored.

    `teacher_record` holds what the caller knows of the teacher, under the names of teacher.json (name, fingerprint,
    task_labels, …) and the task's kind; each field that stands in it must agree. Raises InvalidDataError naming the
    teacher and the field that differs: teacher, teacher fingerprint, labels, kind of task, pair, max_length, precision
    or text.
    """
    record = read_score_record(folder)
    for field, (theirs, name) in _COMPARED.items():
        if theirs in teacher_record and _plain(record[field]) != _plain(teacher_record[theirs]):
            raise _differs(folder, record, name, f"scores {record[field]!r}, expected {teacher_record[theirs]!r}")
    keys, logits = _read_table(folder, record)
    if text_hash(keys.tolist()) != record["text_hash"]:
        raise _differs(folder, record, "text", f"{TABLE} is not the one that {RECORD} describes")
    unique = ~keys.duplicated()
    positions = keys[unique].get_indexer(pd.Index(row_keys(rows, record["pair"]), dtype="object"))
    if (positions < 0).any():
        row = rows["id"].iloc[int(np.flatnonzero(positions < 0)[0])]
        count = int((positions < 0).sum())
        raise _differs(folder, record, "text", f"{count} of {len(rows)} rows have other texts, the first is {row!r}")
    return logits.take(np.flatnonzero(unique)[positions])


def read_score_record(folder: Path) -> dict[str, Any]:
    """What scores.json in `folder` says.

    Raises InvalidDataError if it is missing or not JSON.
    """
    try:
        record = cast(dict[str, Any], json.loads((folder / RECORD).read_text("utf-8")))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidDataError(f"{folder / RECORD}: cannot be read ({error}); run the scoring stage again") from None
    return {**record, "kind": kind_in(record)}


def _read_table(folder: Path, record: Mapping[str, Any]) -> tuple[pd.Index[str], Units]:
    try:
        table = pq.read_table(folder / TABLE, columns=["key", "logits"])
    except (FileNotFoundError, pa.ArrowException) as error:
        raise InvalidDataError(f"{folder / TABLE}: cannot be read ({error}); run the scoring stage again") from None
    return pd.Index(table["key"].to_pylist(), dtype="object"), from_column(table["logits"], len(record["labels"]))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, (list, tuple)) else value


def _differs(folder: Path, record: Mapping[str, Any], field: str, detail: str) -> InvalidDataError:
    return InvalidDataError(
        f"{folder}: scores of teacher {record['teacher']!r} do not fit: {field} differs ({detail}); score again"
    )
