"""MLflow's server and registry as the operations use them: where it is, versions by tag, the champion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_ops.base.locks import exclusive
from kd_ops.base.settings import Settings

CHAMPION = "champion"
CHALLENGER = "challenger"
MODEL_FOLDER = "student"
"""The student's folder among the artifacts of a registered version."""


def tracking_uri(settings: Settings) -> str:
    """MLFLOW_TRACKING_URI, or a database below KD_HOME."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{settings.home}/mlflow.db"


def connect(settings: Settings) -> Any:
    """An MlflowClient. The registry is the tracking server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.pop("MLFLOW_RUN_ID", None)
    import mlflow

    uri = tracking_uri(settings)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if not uri.startswith("sqlite:///"):
        return mlflow.MlflowClient(uri, uri)
    Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with exclusive(settings, "mlflow"):  # of two that create the tables at once MLflow lets one fail
        return mlflow.MlflowClient(uri, uri)


def experiment(client: Any, name: str, settings: Settings) -> str:
    """Id of the experiment, created where needed; with a database the artifacts lie below KD_HOME."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        local = tracking_uri(settings).startswith("sqlite:///")
        location = (settings.home / "mlartifacts" / name).as_uri() if local else None
        try:
            return str(client.create_experiment(name, artifact_location=location))
        except MlflowException:  # another process created it first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        raise TryAgainError(f"experiment {name!r} was deleted in MLflow; restore it there")
    return str(found.experiment_id)


def versions(client: Any, name: str) -> list[Any]:
    """All versions of a registered model, newest first; empty where the model does not exist."""
    found = list(client.search_model_versions(f"name='{name}'", max_results=1000))
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def version(client: Any, name: str, number: str) -> Any:
    """One version with its tags and aliases. Raises ParamsError if there is none, TryAgainError without an answer."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version(name, str(number))
    except MlflowException as error:
        if not is_absent(error):
            raise _silent(f"{name} version {number}", error) from None
        raise ParamsError(f"no version {number} of the registered model {name}: {error.message}") from None


def by_alias(client: Any, name: str, alias: str) -> Any | None:
    """The version that an alias points to; None where nothing has it.

    Raises TryAgainError where the registry does not answer: "no champion" must never be a server's hiccup.
    """
    from mlflow.exceptions import MlflowException

    try:
        return client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        if not is_absent(error):
            raise _silent(f"{name}@{alias}", error) from None
        return None


def is_absent(error: Any) -> bool:
    """Whether an MlflowException says that there is no such thing, rather than that nobody could look."""
    return error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def _silent(wanted: str, error: Any) -> TryAgainError:
    return TryAgainError(f"the model registry does not answer for {wanted}: {error.message}")
