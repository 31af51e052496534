"""The registered model's code: MLflow stores this file as it is and runs it to serve (models from code, no pickle).

It is read outside the project too, where only the library's copy beside the model exists: so it imports nothing of
the project but kd_core, and that only when a model is loaded.
"""

from __future__ import annotations

import atexit
import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

_LOGGER = logging.getLogger("mlflow.kd_pipelines")
"""Below MLflow's own, which its servers show."""


REQUEST_ROWS = 100_000
"""Rows that one request may have where KD_REQUEST_ROWS does not say otherwise."""


class StudentServing(PythonModel):  # type: ignore[misc]  # MLflow's class is untyped
    """The student with its early exits; one of the params overrides what was chosen for it.

    Wishes for speed go by the timings that `kd calibrate` keeps in the folder that KD_COSTS names; the log tells what
    disagreement with the full model each of them comes to.
    With KD_PREDICTION_LOG, a folder, in the environment, each answer's layer and entropy are logged there for drift.
    A request has at most KD_REQUEST_ROWS rows, so that one does not keep a server from all others for hours.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the student from the version's own artifacts."""
        from kd_core.serving.predictor import Predictor

        folder = os.environ.get("KD_PREDICTION_LOG")
        self._predictor = Predictor.load(Path(context.artifacts["student"]), log=Path(folder) if folder else None)
        if self._predictor.log:
            atexit.register(self._predictor.log.close)
        self._limits = lru_cache(maxsize=256)(self._limits_of)
        self._most_rows = _most_rows()

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """One row of answers for each row of texts.

        :param model_input: [N] rows with `text`, and `text_pair` if the task has pairs
        :param params: at most one of `threshold` and `max_disagreement`, in [0, 1], `max_latency_ms`, of one text
            alone, in a share `latency_percentile` of texts, and `min_throughput`, texts a second; negative or null:
            not given
        :raises MlflowException: what is wrong with texts or params, which servers answer with status 400
        """
        from kd_core.runtime.errors import InvalidDataError, ParamsError

        if len(model_input) > self._most_rows:
            raise MlflowException(
                f"{len(model_input):,} rows in one request, and this server takes at most {self._most_rows:,} "
                "(KD_REQUEST_ROWS): send them in several requests, or answer a file with `kd predict --input`",
                error_code=INVALID_PARAMETER_VALUE,
            )
        given = {name: float(value) for name, value in (params or {}).items() if value is not None and not value < 0}
        try:
            return self._predictor.predict(model_input, self._limits(**given))
        except (InvalidDataError, ParamsError) as error:
            raise MlflowException(str(error), error_code=INVALID_PARAMETER_VALUE) from None

    def _limits_of(self, **given: float) -> Any:
        """The exit thresholds of a request; found, and told, once for all that ask for the same."""
        limits = self._predictor.limits(**given)
        if "max_latency_ms" in given or "min_throughput" in given:
            _LOGGER.info("%s: %s", given, self._predictor.record.dial.promise(limits))
        return limits


def _most_rows() -> int:
    """Rows of one request at most. Raises MlflowException where KD_REQUEST_ROWS is no number above 0."""
    given = os.environ.get("KD_REQUEST_ROWS") or str(REQUEST_ROWS)
    if not given.isdecimal() or int(given) < 1:
        raise MlflowException(
            f"KD_REQUEST_ROWS: {given!r} is no number of rows: write a whole number above 0, or leave it unset",
            error_code=INVALID_PARAMETER_VALUE,
        )
    return int(given)


mlflow.models.set_model(StudentServing())
