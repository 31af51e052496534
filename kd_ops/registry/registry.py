"""MLflow's server and registry as the operations use them: where it is, versions by tag, the champion."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kd_core.runtime import s3
from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_ops.base.locks import exclusive
from kd_ops.base.settings import Settings, is_local

CHAMPION = "champion"
CHALLENGER = "challenger"
MODEL_FOLDER = "student"
"""The student's folder among the artifacts of a registered version."""
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""What MLflow's client opens itself, without a server."""


def tracking_uri(settings: Settings) -> str:
    """MLFLOW_TRACKING_URI, or a database below KD_HOME."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{settings.home}/mlflow.db"


def connect(settings: Settings) -> Any:
    """An MlflowClient. The registry is the tracking server."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    os.environ.pop("MLFLOW_RUN_ID", None)
    _tell_of_s3()
    import mlflow

    uri = tracking_uri(settings)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    if _database(uri) is None:
        return mlflow.MlflowClient(uri, uri)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    with exclusive(settings, "mlflow"):  # of two that create the tables at once MLflow lets one fail
        return mlflow.MlflowClient(uri, uri)


def _database(uri: str) -> str | None:
    """The kind of database that the address names; None for a server."""
    kind = uri.partition(":")[0].partition("+")[0]
    return kind if kind in _DATABASES else None


def _tell_of_s3() -> None:
    """MLflow's client reads the same settings from variables of its own."""
    if style := s3.client_options().get("addressing_style"):
        os.environ.setdefault("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", style)
    if arguments := s3.upload_arguments():
        os.environ.setdefault("MLFLOW_S3_UPLOAD_EXTRA_ARGS", json.dumps(arguments))


def _artifact_location(name: str, settings: Settings) -> str | None:
    """Where an experiment's artifacts lie; None where a server decides it."""
    kind = _database(tracking_uri(settings))
    if kind == "sqlite":
        return (settings.home / "mlartifacts" / name).as_uri()
    if kind is None:
        return None
    place = f"{settings.store_uri}/mlartifacts/{name}"
    return Path(place).as_uri() if is_local(place) else place


def experiment(client: Any, name: str, settings: Settings) -> str:
    """Id of the experiment, created where needed.

    Without a server, artifacts lie below KD_HOME if the database is a file there, else in the store.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=_artifact_location(name, settings)))
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
