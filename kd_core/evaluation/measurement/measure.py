"""Measures how fast the models answer on this machine, side by side in one run, from text to probabilities.

Other programs can make a timing several times worse. So repeats of all models are interleaved and medians compared:
the ratios hold even where the absolute numbers do not.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from kd_core.config.evaluation import MeasureParams
from kd_core.evaluation.measurement.contestants import Contestant, all_contestants, at_thresholds, served_student
from kd_core.evaluation.measurement.reference_workload import relative_latency
from kd_core.evaluation.names import ADAPTIVE, TRUNK, exits_name
from kd_core.rows import read_rows
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.progress import Progress
from kd_core.serving.folder.record import ModelRecord, text_columns

MOST_CALLS = 32
"""Most calls of one model in one repeat: batch 1 is timed on fewer texts than the large batches."""

MOST_SECONDS = 90.0
"""No further repeat begins after this time, so that a busy machine does not hold up the run."""

CURVE_REPEATS = 3
"""Repeats of the curve over exit thresholds; few are enough because its ratios are within one fast model."""

_SEED = 0


def measure(
    student: Path,
    teachers: Path,
    texts: Path,
    machine: Mapping[str, Any],
    params: MeasureParams,
    progress: Progress,
    thresholds: Sequence[float] = (),
) -> dict[str, Any]:
    """Time every reference teacher and the student in full and with early exits, tokenisation included.

    The biggest teacher is also timed through `transformers.pipeline`, as most people would run it.

    :param texts: rows to answer, of the calibration split
    :param machine: description of this machine; recorded with the threads in use
    :param thresholds: exit thresholds of the curve
    :returns: machine, device, threads, texts, repeats (made), reference (slowest teacher at the largest batch), rows,
        one for each model and batch: samples_per_second (median of the repeats), latency_ms of a batch {p50, p99},
        size_mb (weights on disk, 10⁶ bytes; for the student, the graphs in use), parameters, speedup (throughput ÷
        that of the slowest teacher at the same batch);
        curve, one for each threshold above 0: model, batch (the largest), speedup;
        costs: of calls of the student's graphs (kd_core.serving.speed.costs), by which the student plans here;
        relative_latency {ratio, reference_ms}: of the student with early exits at batch 1, to compare runs
    :raises InvalidDataError: no text to time, or no teacher
    """
    if params.threads is not None:
        torch.set_num_threads(params.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = _sample(texts, ModelRecord.read(student), params.texts)
    predictor, costs = served_student(student)
    contestants = all_contestants(predictor, student, teachers, device)
    seconds = time_all(contestants, rows, params.batches, params.repeats, progress)
    results = [_row(each, batch, rows, seconds[each.name, batch]) for batch in params.batches for each in contestants]
    reference = _add_speedups(results)
    served = next(contestant for contestant in contestants if contestant.name == ADAPTIVE)
    at_exits = {TRUNK: 0.0} | {exits_name(value): value for value in thresholds if value > 0}
    full = next(row for row in results if row["model"] == TRUNK and row["batch"] == max(params.batches))
    return {
        "machine": dict(machine),
        "device": device.type,
        "threads": torch.get_num_threads(),
        "texts": len(rows),
        "repeats": len(next(iter(seconds.values()))),
        "reference": reference,
        "relative_latency": asdict(relative_latency(served, _batches(rows, 1), params.repeats, device)),
        "rows": results,
        "curve": _curve(at_thresholds(predictor, student, at_exits), rows, full, progress),
        "costs": asdict(costs),
    }


def _curve(
    contestants: Sequence[Contestant], rows: pd.DataFrame, full: Mapping[str, Any], progress: Progress
) -> list[dict[str, Any]]:
    """The student's speed at the exit thresholds: model, batch, speedup.

    They take turns with the full model, the first contestant. Speed-up over the slowest teacher is the full model's
    speed-up, in the row `full`, × theirs over the full model.
    """
    batch = int(full["batch"])
    seconds = time_all(contestants, rows, (batch,), CURVE_REPEATS, progress, "measure curve")
    took = {name: float(np.median([sum(repeat) for repeat in repeats])) for (name, _), repeats in seconds.items()}
    return [
        {"model": each.name, "batch": batch, "speedup": round(full["speedup"] * took[TRUNK] / took[each.name], 3)}
        for each in contestants[1:]
    ]


def _sample(path: Path, record: ModelRecord, count: int) -> pd.DataFrame:
    rows = read_rows(path)[list(text_columns(record.task))]
    if rows.empty:
        raise InvalidDataError(f"{path}: no text to time; set data.reference.split.calibration")
    return rows.sample(n=min(count, len(rows)), random_state=_SEED).reset_index(drop=True)


def time_all(
    contestants: Sequence[Contestant],
    rows: pd.DataFrame,
    batches: Sequence[int],
    repeats: int,
    progress: Progress,
    phase: str = "measure",
) -> dict[tuple[str, int], list[list[float]]]:
    """(model, batch size) → the seconds of each call, for each repeat.

    In every repeat all models take turns, each time from another first model. At least one repeat is made.
    """
    began = time.monotonic()
    parts = {batch: _batches(rows, batch) for batch in batches}
    seconds: dict[tuple[str, int], list[list[float]]] = {(c.name, b): [] for c in contestants for b in batches}
    for contestant in contestants:  # a warm-up does not count
        for batch in batches:
            contestant.answer(parts[batch][0])
    for repeat in progress.track(range(repeats), phase, repeats, "repeats"):
        start = repeat % len(contestants)
        for batch in batches:
            for contestant in [*contestants[start:], *contestants[:start]]:
                seconds[contestant.name, batch].append([_seconds(contestant, part) for part in parts[batch]])
        if time.monotonic() - began > MOST_SECONDS:
            break
    return seconds


def _batches(rows: pd.DataFrame, size: int) -> list[pd.DataFrame]:
    used = min(len(rows), size * MOST_CALLS)
    return [rows.iloc[start : min(start + size, used)] for start in range(0, used, size)]


def _seconds(contestant: Contestant, part: pd.DataFrame) -> float:
    began = time.perf_counter()
    contestant.answer(part)
    return time.perf_counter() - began


def _row(contestant: Contestant, batch: int, rows: pd.DataFrame, seconds: Sequence[Sequence[float]]) -> dict[str, Any]:
    texts = min(len(rows), batch * MOST_CALLS)
    calls = np.array([second for repeat in seconds for second in repeat]) * 1000
    p50, p99 = np.quantile(calls, [0.5, 0.99])
    return {
        "model": contestant.name,
        "batch": batch,
        "samples_per_second": round(float(np.median([texts / sum(repeat) for repeat in seconds])), 2),
        "latency_ms": {"p50": round(float(p50), 4), "p99": round(float(p99), 4)},
        "size_mb": contestant.size_mb,
        "parameters": contestant.parameters,
    }


def _add_speedups(results: list[dict[str, Any]]) -> str:
    """Add each row's speed-up; returns the slowest teacher at the largest batch."""
    reference = ""
    for batch in sorted({row["batch"] for row in results}):
        rows = [row for row in results if row["batch"] == batch]
        teachers = [row for row in rows if row["model"].startswith("teacher:")]
        slowest = min(teachers, key=lambda row: float(row["samples_per_second"]))
        reference = str(slowest["model"])
        for row in rows:
            row["speedup"] = round(row["samples_per_second"] / slowest["samples_per_second"], 3)
    return reference
