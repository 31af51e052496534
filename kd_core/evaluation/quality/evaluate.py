"""The evaluation of a run: every model on the same test rows, into metrics.json and details/."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import EvaluateParams
from kd_core.evaluation.names import ADAPTIVE, CHOSEN, TRUNK, exits_name
from kd_core.evaluation.quality import answers as answered
from kd_core.evaluation.quality import details, masked, quality, slices
from kd_core.evaluation.quality.quality import ALONE, FROZEN, TEACHER, TFIDF, Answers
from kd_core.evaluation.reference import reference_teachers
from kd_core.rows import read_rows, rows_hash
from kd_core.runtime.arrays import Booleans
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.files import write_json
from kd_core.runtime.progress import Progress
from kd_core.serving.exits.outcomes import Exits, Predictions, shares
from kd_core.serving.predictor import Predictor
from kd_core.tasks import decide, encode
from kd_core.tasks.units import Units
from kd_core.teachers.model import Teacher

_DIGITS = 6


@dataclass(frozen=True)
class Models:
    """Folders of the models that are evaluated."""

    student: Path
    alone: Path
    frozen: Path
    tfidf: Path
    teachers: Path


@dataclass(frozen=True)
class Evaluation:
    """The results of an evaluation."""

    metrics: dict[str, Any]
    examples: pd.DataFrame
    tables: dict[str, Any]
    """File name in details/ (without .json) → content."""

    def write(self, metrics: Path, folder: Path) -> None:
        """Write metrics.json and the files of details/."""
        self.examples.to_parquet(folder / "examples.parquet", index=False)
        for name, content in self.tables.items():
            _write(folder / f"{name}.json", content)
        _write(metrics, self.metrics)


@dataclass(frozen=True)
class _Student:
    """The exported student's answers on the test rows."""

    exits: Exits
    adaptive: Predictions
    """The answers with early exits at the chosen thresholds, as in service."""
    thresholds: tuple[float, ...]


def evaluate(
    models: Models,
    test: Path,
    task: TaskParams,
    params: EvaluateParams,
    progress: Progress,
    label_names: masked.Names | None = None,
) -> Evaluation:
    """Evaluate every teacher of the reference task, the student (trunk, each branch, early exits) and the baselines.

    :param test: rows of the test split
    :param label_names: names of the labels in texts, if the source knows them: the models also answer a masked copy
    :raises InvalidDataError: no labelled test row, or a model is missing, damaged or of another task
    """
    rows = read_rows(test)
    rows = rows[rows["label"].notna()].reset_index(drop=True)
    if rows.empty:
        raise InvalidDataError(f"{test}: no labelled row to evaluate on; set data.reference.split.test")
    student = _student(models, rows)
    answers = _answers(_plain(models, rows, task, student, progress), rows, task, params, student)
    parts = slices.of_rows(rows)
    metrics = {"test": {"rows": len(rows), "hash": rows_hash(rows)}, **_metrics(answers, student, params)}
    metrics |= {"main_metric": answers.main_metric, "metric_name": decide.of(task.kind).METRIC_NAME}
    copy, changed = masked.mask(rows, label_names or {})
    if len(copy):
        unnamed = _plain(models, copy, task, _student(models, copy), progress)
        metrics["masked"] = masked.compare(answers, changed, unnamed, params)
    return Evaluation(
        metrics=_round({**metrics, "slices": quality.of_slices(answers, parts)}),
        examples=details.examples(rows, answers, student.adaptive, task.labels, parts),
        tables=_round(_tables(answers, student, task, params)),
    )


def _student(models: Models, rows: pd.DataFrame) -> _Student:
    predictor = Predictor.load(models.student, planned=False)
    return _Student(predictor.all_exits(rows), predictor.predict_rows(rows), predictor.record.thresholds)


def _plain(
    models: Models, rows: pd.DataFrame, task: TaskParams, student: _Student, progress: Progress
) -> dict[str, Units]:
    """Every teacher's answers, the student's in full and with early exits, and the baselines'."""
    found: dict[str, Units] = {}
    teachers = reference_teachers(models.teachers)
    for folder in progress.track(teachers, "teachers", len(teachers), "models"):
        found[f"{TEACHER}{folder.name}"] = answered.of_teacher(Teacher.load(folder), rows, task)
    alone = answered.of_student(models.alone, rows, task)
    return found | {
        TRUNK: student.exits.only(student.exits.layers[-1]),
        ADAPTIVE: student.adaptive.units,
        ALONE: alone.only(alone.layers[-1]),
        FROZEN: answered.of_frozen_encoder(models.frozen, rows, task),
        TFIDF: answered.of_baseline(models.tfidf, rows, task),
    }


def _answers(
    plain: dict[str, Units], rows: pd.DataFrame, task: TaskParams, params: EvaluateParams, student: _Student
) -> Answers:
    exits = student.exits
    found = plain | {f"branch:{layer}": exits.only(layer) for layer in exits.layers[:-1]}
    found |= {exits_name(value): exits.simulate(value).units for value in params.thresholds}
    return Answers(encode.of(task.kind).targets(rows, task), rows["group"].to_numpy(str), found, task.kind)


def _metrics(answers: Answers, student: _Student, params: EvaluateParams) -> dict[str, Any]:
    found, confidence, best = quality.resampled(answers, params), params.confidence, answers.best_teacher
    gap, conclusion = quality.gap_closed(best, found, confidence)
    differences = quality.differences(best, found, confidence)
    return {
        "confidence": confidence,
        "models": quality.of_models(answers, found, confidence),
        "best_teacher": best,
        "differences": {name: interval.as_dict() for name, interval in differences.items()},
        "gap_closed": gap,
        "gap_conclusion": conclusion,
        "thresholds": list(student.thresholds),
        "disagreement": float(np.mean(_differs(student))),
        "exits": shares(student.adaptive.exit_layer, student.exits.layers),
        "mean_layers": float(student.adaptive.exit_layer.mean()),
    }


def _differs(student: _Student) -> Booleans:
    """[N], whether the answer with early exits differs from the full model's."""
    full = student.exits.simulate(0.0)
    return ~decide.of(full.kind).same(student.adaptive.answers, full.answers)


def _tables(answers: Answers, student: _Student, task: TaskParams, params: EvaluateParams) -> dict[str, Any]:
    exits, thresholds = student.exits, sorted(set(params.thresholds))
    used = {f"{value:g}": shares(exits.simulate(value).exit_layer, exits.layers) for value in thresholds}
    used[CHOSEN] = shares(student.adaptive.exit_layer, exits.layers)
    return {
        "curve": {
            "layers": list(exits.layers),
            "thresholds": list(student.thresholds),
            "points": details.curve(exits, answers.targets, thresholds),
        },
        "exits": used,
        "reliability": details.reliability(answers, (answers.best_teacher, TRUNK, ADAPTIVE, ALONE)),
        "confusion": details.confusion(answers, ADAPTIVE, task.labels),
    }


def _round(value: Any) -> Any:
    """Round to six digits: more than a test split can resolve, and still readable."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _round(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_round(item) for item in value]
    return value


def _write(path: Path, content: Any) -> None:
    write_json(path, content)
