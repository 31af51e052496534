"""The student as an MLflow model: its folder, the code that reads it, signature, example, pinned requirements."""

from __future__ import annotations

import importlib.metadata
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.config.data import TaskParams
from kd_core.row_samples import stratified_sample
from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.serving.folder.record import NAME as RECORD
from kd_core.serving.folder.record import text_columns
from kd_core.tasks import columns as labels
from kd_ops.registry.registry import MODEL_FOLDER
from kd_ops.runs.outs import Outs

STUDENT = "models/student"
CALIBRATION = "data/checked/reference/calibration.parquet"
REQUIREMENTS = (
    "onnxruntime",
    "tokenizers",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "fsspec",
    "pyyaml",
)
PARAMS = ("threshold", "max_disagreement", "max_latency_ms", "latency_percentile", "min_throughput")
"""Of a request, as kd_ops/registering/serving_model.py hands them on; negative: not given."""
_EXAMPLE_ROWS = 2

_PROOF = """\
import sys, mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pandas.read_json(sys.argv[2], orient="records", dtype=False)
answers = model.predict(rows)
import kd_core
assert kd_core.__file__.startswith(sys.argv[1]), f"{kd_core.__file__} is not the copy beside the model"
assert len(answers) == len(rows) and answers["label"].notna().all(), answers
"""


def pack(outs: Outs, folder: Path, project: Path) -> Path:
    """The MLflow model in `folder`/model: code, student, signature, example, pinned requirements; no pickle."""
    import mlflow

    student = outs.fetch(STUDENT, folder / MODEL_FOLDER)
    task = student_task(outs)
    columns = list(text_columns(task))
    example = _example(outs, columns)
    example.to_json(folder / "example.json", orient="records", force_ascii=False)
    packed = folder / "model"
    mlflow.pyfunc.save_model(
        path=str(packed),
        python_model=str(Path(__file__).with_name("serving_model.py")),
        artifacts={MODEL_FOLDER: str(student)},
        code_paths=[str(project / "kd_core")],
        signature=_signature(columns, several=labels.of(task.kind).LISTED),
        input_example=example,
        pip_requirements=requirements(),
    )
    return packed


def student_task(outs: Outs) -> TaskParams:
    """The task of the run's student. Raises InvalidDataError for a run of an earlier release."""
    path = f"{STUDENT}/{RECORD}"
    if path not in outs:
        raise InvalidDataError(f"the run has no {path}: an earlier release made it; start a new run of its recipe")
    return TaskParams.model_validate(json.loads(outs.read(path))["task"])


def _example(outs: Outs, columns: list[str]) -> pd.DataFrame:
    """Texts like those to come; never test rows, which whoever opens the registry could read and train on."""
    rows = pd.read_parquet(io.BytesIO(outs.read(CALIBRATION)), columns=["id", "label", *columns])
    return stratified_sample(rows, _EXAMPLE_ROWS)[columns].astype(str)


def _signature(columns: list[str], several: bool) -> Any:
    """:param several: whether a text may be given several labels, or none"""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import Array

    texts = [ColSpec(DataType.string, name) for name in columns]
    answers = {
        "label": Array(DataType.string) if several else DataType.string,
        "probability": Array(DataType.double) if several else DataType.double,
        "exit_layer": DataType.long,
        "entropy": DataType.double,
    }
    return ModelSignature(
        inputs=Schema(texts),
        outputs=Schema([ColSpec(kind, name) for name, kind in answers.items()]),
        params=ParamSchema([ParamSpec(name, DataType.double, -1.0) for name in PARAMS]),
    )


def requirements() -> list[str]:
    """Exact versions of what serving imports, as installed here; a local build's mark (`+cpu`) is dropped."""
    return [f"{name}=={importlib.metadata.version(name).split('+')[0]}" for name in REQUIREMENTS]


def prove(packed: Path, folder: Path) -> None:
    """Load the packed model in a process that cannot see the project, and have it answer its example."""
    away = folder / "away"
    away.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", _PROOF, str(packed), str(folder / "example.json")]
    done = subprocess.run(command, cwd=away, env=environment, capture_output=True, text=True, check=False)
    if done.returncode < 0:
        raise TryAgainError(f"checking the packed model was stopped by signal {-done.returncode}")
    if done.returncode:
        raise InvalidDataError(f"the packed model does not answer its own example:\n{done.stderr[-2000:]}")
