"""Probabilities of a model on the test rows, computed once and kept as Parquet."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.workbench import Run, Workbench
from kd_core.config.data import TaskParams
from kd_core.rows import label_sets, read_rows, schema, write_table
from kd_core.runtime import fingerprint
from kd_core.serving.folder.record import NAME as RECORD_NAME
from kd_core.serving.folder.record import ModelRecord
from kd_core.tasks.columns import of as columns_of

_ABOUT = b"about"


@dataclass(frozen=True)
class Predictions:
    """Of one model, or of each of its exits."""

    layers: tuple[int, ...]
    """[E], the layer after which each exit stands, the last being the whole model; (0,) for a model without layers."""
    exits: np.ndarray
    """[N, E, C]"""
    thresholds: list[float] | None
    """Of an exported student: those that the calibration split supports, one an early exit."""
    file: str

    @property
    def probabilities(self) -> np.ndarray:
        """[N, C], of the whole model."""
        return self.exits[:, -1]


def predict(run: Run, model: str, rows: str, bench: Workbench) -> Predictions:
    """The probabilities that `model`, an output of `run`, gives the labelled rows of the output `rows`."""
    code = bench.code_of(run.graph["evaluate"])
    task = run.params["data"]["reference"]["task"]
    key = fingerprint.of_value([model.split("/")[0], run.hash(model), run.hash(rows), task, code])
    path = bench.folder / "predictions" / f"{key}.parquet"
    if not path.exists():
        source, target = run.path(model), run.path(rows)
        with bench.board.stage(f"predict {model}"):
            _write(path, source, target, TaskParams.model_validate(task))
        bench.computed.append(f"predict {model}")
    return _read(path)


def _write(path: Path, model: Path, rows: Path, task: TaskParams) -> None:
    frame = read_rows(rows)
    frame = frame[frame["label"].notna()].reset_index(drop=True)
    layers, exits = _answers(model, frame, task)
    flat = pa.array(np.ascontiguousarray(exits, dtype=np.float32).ravel())
    several = columns_of(task.kind).LISTED
    cells = {"label": label_sets(frame["label"])} if several else {}
    types = schema(pair=False, multi_label=several)
    columns = {
        **{
            name: pa.array(cells.get(name, frame[name].tolist()), types.field(name).type)
            for name in ("id", "group", "label")
        },
        "probabilities": pa.FixedSizeListArray.from_arrays(flat, exits.shape[1] * exits.shape[2]),
    }
    thresholds = ModelRecord.read(model).thresholds if (model / RECORD_NAME).is_file() else None
    about = json.dumps({"layers": layers, "thresholds": thresholds})
    write_table(path, pa.table(columns).replace_schema_metadata({_ABOUT: about.encode()}))


def _answers(model: Path, frame: Any, task: TaskParams) -> tuple[tuple[int, ...], np.ndarray]:
    from kd_core.evaluation.quality import answers
    from kd_core.inference.frozen_encoder import is_frozen_encoder
    from kd_core.teachers.model import RECORD, Teacher

    if is_frozen_encoder(model):
        return (0,), answers.of_frozen_encoder(model, frame, task).values[:, None]
    if (model / "tfidf.json").exists():
        return (0,), answers.of_baseline(model, frame, task).values[:, None]
    if (model / RECORD).exists():
        return (0,), answers.of_teacher(Teacher.load(model), frame, task).values[:, None]
    found = answers.of_student(model, frame, task)
    return found.layers, found.probabilities


def _read(path: Path) -> Predictions:
    table = pq.read_table(path)
    about = json.loads((table.schema.metadata or {})[_ABOUT])
    flat = table["probabilities"].combine_chunks().flatten().to_numpy()
    exits = flat.reshape(table.num_rows, len(about["layers"]), -1)
    return Predictions(tuple(about["layers"]), exits, about["thresholds"], str(path))
