"""The registered model's code: MLflow stores this file as it is and runs it to serve (models from code, no pickle).

It is read outside the project too, where only the library's copy beside the model exists: so it imports nothing of
the project but kd_core, and that only when a model is loaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.pyfunc import PythonModel, PythonModelContext


class StudentServing(PythonModel):  # type: ignore[misc]  # MLflow's class is untyped
    """The student with its early exits; `threshold` in params overrides the one that was chosen for it."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the student from the version's own artifacts."""
        from kd_core.inference.predictor import Predictor

        self._predictor = Predictor.load(Path(context.artifacts["student"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of answers for each row of texts.

        :param model_input: [N] rows with `text`, and `text_pair` if the task has pairs
        :param params: `threshold` in [0, 1]; negative: the chosen one
        """
        threshold = float((params or {}).get("threshold", -1.0))
        return self._predictor.predict(model_input, threshold=None if threshold < 0 else threshold)


mlflow.models.set_model(StudentServing())
