"""How fast an exported student answers, beside its teacher, on the same machine and texts, tokenisation included.

python -m benchmarks.inference --student DIR --teacher DIR [--quantised DIR] [--texts 128] [--repeats 20]

DIR are folders as the stages `export` and `teach` write them; --quantised is the same student exported with
`export.quantise: static`. The texts are those of --data; without it banking77's test set where KD_SHARED_DATA leads to
it, otherwise those of the recipe `route`; in their own mix of lengths. Each request brings as many texts as the table's
batch says. All ways take turns in every repeat; ratios are paired medians with 95 % bootstrap intervals.

Early exits are shown at the thresholds where they disagree with the full model on 0, 0.5, 1 and 2 % of half of the
texts that are not timed. Counted speed-up (layers of the full model ÷ layers passed) is that of the timed texts;
disagreement, and accuracy where there are labels, is that of all texts that chose nothing.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from benchmarks.onnx_teacher import OnnxTeacher
from benchmarks.texts import Request, columns_of, request_of, texts_of
from benchmarks.timing import interleaved, speedup
from kd_core.models.loading import load_tokenizer
from kd_core.models.student import StudentModel
from kd_core.serving.exits.outcomes import Exits
from kd_core.serving.exits.thresholds import Thresholds
from kd_core.serving.predictor import Predictor
from kd_core.serving.speed.timing import measure_costs
from kd_core.teachers.model import Teacher

BATCHES = (1, 8, 32, 128)
DISAGREEMENTS = (0.0, 0.005, 0.01, 0.02)
PIPELINE, TEACHER_ONNX, PYTORCH = "teacher, pipeline", "teacher, ONNX Runtime", "student, PyTorch"
TOKENS = "its texts cut into tokens, no more"

Way = Callable[[Request], object]


@dataclass(frozen=True)
class Point:
    """One adaptive way: its threshold, and what it does on texts that the threshold was not chosen on."""

    threshold: float
    disagreement: float
    counted: float


@dataclass(frozen=True)
class Texts:
    """Who is used for what; `measured` has the timed ones in it, `chosen_on` none of either."""

    timed: pd.DataFrame
    chosen_on: pd.DataFrame
    measured: pd.DataFrame

    @classmethod
    def divide(cls, rows: pd.DataFrame, timed: int) -> Texts:
        """The first `timed` rows are timed; the thresholds are chosen on half of the others."""
        middle = timed + (len(rows) - timed) // 2
        return cls(rows.head(timed), rows.iloc[timed:middle], pd.concat([rows.head(timed), rows.iloc[middle:]]))


def main() -> None:
    """Print a table for each number of threads and batch size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--quantised", type=Path)
    parser.add_argument("--data", type=Path, help="Parquet file with a column `text`, for instance a run's test split")
    parser.add_argument("--texts", type=int, default=128, help="texts timed")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    asked = parser.parse_args()
    source, rows = texts_of(asked.data)
    texts = Texts.divide(rows, asked.texts)
    print(f"{len(texts.timed)} texts of {source}, {asked.repeats} interleaved repeats")
    with tempfile.TemporaryDirectory() as folder:
        teacher = OnnxTeacher.export(Teacher.load(asked.teacher, precision="fp32"), Path(folder))
        for threads in asked.threads:
            torch.set_num_threads(threads)
            folders = [folder for folder in (asked.student, asked.quantised) if folder]
            ways, points = _ways(folders, asked.teacher, teacher.session(threads), threads, texts)
            for batch in asked.batches:
                print(f"\n{threads} threads, requests of {batch} texts")
                _report(ways, points, texts.timed, batch, asked.repeats)


def _ways(
    students: Sequence[Path], teacher_folder: Path, in_onnx: OnnxTeacher, threads: int, texts: Texts
) -> tuple[dict[str, Way], dict[str, Point]]:
    teacher = Teacher.load(teacher_folder, precision="fp32")
    ways: dict[str, Way] = {
        PIPELINE: _pipeline(teacher),
        TEACHER_ONNX: in_onnx.answer,
        PYTORCH: _pytorch(students[0]),
    }
    batches = [request_of(texts.measured.iloc[start : start + 64]) for start in range(0, len(texts.measured), 64)]
    answers = np.concatenate([in_onnx.answer(batch).argmax(-1) for batch in batches])
    print(f"{threads} threads, teacher: {_accuracy(answers, teacher.labels, texts.measured)}")
    points: dict[str, Point] = {}
    for folder in students:
        served = Predictor.load(folder, planned=False, threads=threads)
        costs = measure_costs(served)
        ways.setdefault(TOKENS, partial(_tokens, served))
        plain = f"student, {served.record.precision}"
        planned, measured = served.planned_by(costs), served.all_exits(texts.measured)
        others, labels = served.all_exits(texts.chosen_on), served.record.task.labels
        ways[plain] = partial(planned.predict_rows, threshold=0.0)
        full = measured.only(measured.layers[-1]).values.argmax(-1)
        print(f"{threads} threads, {plain}: {_accuracy(full, labels, texts.measured)}")
        for allowed in DISAGREEMENTS:
            name = f"{plain}, exits at {allowed:.1%}"
            points[name] = _point(others, measured, len(texts.timed), allowed)
            threshold = points[name].threshold
            ways[name] = partial(planned.predict_rows, threshold=threshold)
            early = _accuracy(measured.simulate(threshold).answers.values, labels, texts.measured)
            print(f"{threads} threads, {name}: threshold {threshold:.4f}, {early}, {_plan(planned, points[name])}")
    return ways, points


def _accuracy(answers: Any, labels: Sequence[str], rows: pd.DataFrame) -> str:
    if "label" not in rows.columns:
        return "no labels"
    return f"accuracy {np.mean(np.array(labels)[answers] == rows['label'].to_numpy()):.2%} of {len(rows)}"


def _plan(served: Predictor, point: Point) -> str:
    limits = (point.threshold,) * (len(served.record.exits) - 1)
    planner = served.executor.planner
    if planner is None or not planner.pays(limits):
        return "the whole graph answers"
    return "expected " + ", ".join(f"{planner.speedup(limits, size):.2f}× at {size}" for size in BATCHES)


def _point(chosen_on: Exits, measured: Exits, timed: int, allowed: float) -> Point:
    """The largest threshold within the disagreement on `chosen_on`, and what it does on others, `timed` ones first."""
    candidates = np.unique(np.concatenate([[0.0], chosen_on.uncertainty[:, :-1].ravel()]))
    steps = candidates[np.linspace(0, len(candidates) - 1, min(len(candidates), 400)).round().astype(int)]
    threshold = float(max(step for step in steps if disagreement(chosen_on, float(step)) <= allowed))
    mean_layers = float(measured.simulate(threshold).exit_layer[:timed].mean())
    return Point(threshold, disagreement(measured, threshold), measured.layers[-1] / mean_layers)


def disagreement(exits: Exits, threshold: Thresholds) -> float:
    """Share of predictions that differ from the full model's."""
    full = exits.only(exits.layers[-1]).values.argmax(-1)
    return float(np.mean(exits.simulate(threshold).answers.values != full))


def _report(ways: dict[str, Way], points: dict[str, Point], rows: pd.DataFrame, batch: int, repeats: int) -> None:
    requests = [request_of(rows.iloc[start : start + batch]) for start in range(0, len(rows), batch)]
    every = {name: partial(_all, way, requests) for name, way in ways.items()}
    seconds = interleaved(every, repeats, before={name: partial(_all, way, requests[:1]) for name, way in ways.items()})
    for name in ways:
        rate = len(rows) / float(np.median(seconds[name]))
        line = f"{name:34} {rate:8.0f} texts/s  {speedup(seconds, name, PIPELINE)} of the pipeline"
        line += f"  {speedup(seconds, name, TEACHER_ONNX)} of its ONNX"
        if name in points:
            point, plain = points[name], name.split(", exits")[0]
            line += f"  {speedup(seconds, name, plain)} of no exits"
            line += f"  (counted {point.counted:.2f}×, disagreement {point.disagreement:.2%})"
        print(line, flush=True)


def _all(way: Way, requests: Sequence[Request]) -> None:
    for request in requests:
        way(request)


def _pipeline(teacher: Teacher) -> Way:
    from transformers import pipeline

    run: Any = pipeline("text-classification", model=teacher.model, tokenizer=teacher.tokenizer)

    def answer(request: Request) -> object:
        texts = request.to_dict("records") if isinstance(request, pd.DataFrame) else request
        return run(texts, batch_size=len(texts), truncation=True, max_length=teacher.max_length)

    return answer


def _tokens(served: Predictor, request: Request) -> object:
    return served.encoder.encode(columns_of(request))


def _pytorch(folder: Path) -> Way:
    model, tokenizer = StudentModel.from_pretrained(folder), load_tokenizer(folder)
    task = Predictor.load(folder, planned=False).record.task

    def answer(request: Request) -> object:
        cut = {"truncation": True, "max_length": task.max_length, "padding": True, "return_tensors": "pt"}
        batch = tokenizer(*columns_of(request), **cut)
        with torch.inference_mode():
            return model.answer(model.decoded(batch))

    return answer


if __name__ == "__main__":
    main()
