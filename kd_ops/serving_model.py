"""The registered model's code: MLflow stores this file as it is and runs it to serve (models from code, no pickle).

It is read outside the project too, where only the library's copy beside the model exists: so it imports nothing of
the project but kd_core, and that only when a model is loaded.
"""

from __future__ import annotations

import atexit
import os
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext


class StudentServing(PythonModel):  # type: ignore[misc]  # MLflow's class is untyped
    """The student with its early exits; `threshold` or `max_disagreement` in params overrides what was chosen for it.

    With KD_PREDICTION_LOG, a folder, in the environment, each answer's layer and entropy are logged there for drift.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the student from the version's own artifacts."""
        from kd_core.inference.predictor import Predictor

        folder = os.environ.get("KD_PREDICTION_LOG")
        self._predictor = Predictor.load(Path(context.artifacts["student"]), log=Path(folder) if folder else None)
        if self._predictor.log:
            atexit.register(self._predictor.log.close)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of answers for each row of texts.

        :param model_input: [N] rows with `text`, and `text_pair` if the task has pairs
        :param params: `threshold` or `max_disagreement`, in [0, 1]; negative: as chosen
        """
        threshold, wish = (_given(params or {}, name) for name in ("threshold", "max_disagreement"))
        return self._predictor.predict(model_input, threshold, max_disagreement=wish)


def _given(params: dict[str, Any], name: str) -> float | None:
    value = float(params.get(name, -1.0))
    return None if value < 0 else value


mlflow.models.set_model(StudentServing())
