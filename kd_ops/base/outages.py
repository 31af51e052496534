"""Whether a failure is an outage of MLflow; no import of MLflow where none has happened yet."""

from __future__ import annotations

import sys


def mlflow_unavailable(error: BaseException) -> bool:
    """Whether `error` says that MLflow's server or database does not answer or cannot do its work just now."""
    if "mlflow" not in sys.modules:  # then it cannot be MLflow's, whose import is slow
        return False
    from mlflow.exceptions import MlflowException
    from requests.exceptions import ConnectionError, Timeout
    from sqlalchemy.exc import InterfaceError, OperationalError

    if isinstance(error, MlflowException):
        return error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")
    return isinstance(error, ConnectionError | Timeout | InterfaceError | OperationalError)
