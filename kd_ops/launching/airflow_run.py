"""How `kd run` starts Airflow: one machine, one DAG run, through `airflow dags test`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.fingerprint import of_value
from kd_ops.base.locks import exclusive
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import tracking_uri

_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
_DATABASE_ASYNC = f"{_DATABASE}_ASYNC"
_PSYCOPG = "postgresql+psycopg://"


def environment(settings: Settings) -> dict[str, str]:
    """Airflow below KD_HOME, with this project's DAGs, and the same settings for every process that it starts."""
    own = {
        "AIRFLOW_HOME": str(settings.home / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.project / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "INFO",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "SCARF_NO_ANALYTICS": "true",
        "DO_NOT_TRACK": "1",
        "DVC_NO_ANALYTICS": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": tracking_uri(settings),
        "PYTHONPATH": str(settings.project),
        "PYTHONUNBUFFERED": "1",
        "KD_PROJECT": str(settings.project),
        "KD_HOME": str(settings.home),
        "KD_STORE_URI": settings.store_uri,
        "KD_RUNS_URI": settings.runs_uri,
        "KD_CACHE_DIR": str(settings.cache_dir),
    }
    return {**_with_one_driver(os.environ), **own}


def _with_one_driver(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment in which Airflow opens PostgreSQL by psycopg only; else it would ask for asyncpg too."""
    database = environment.get(_DATABASE, "")
    return {_DATABASE_ASYNC: database, **environment} if database.startswith(_PSYCOPG) else dict(environment)


def migrate(settings: Settings) -> None:
    """Bring Airflow's database, below KD_HOME or your own, to the installed version; costs nothing where that was done.

    Raises TryAgainError with Airflow's last words if it fails.
    """
    version, own = importlib.metadata.version("apache-airflow"), os.environ.get(_DATABASE)
    home = settings.home / "airflow"
    stamp, done_for = home / "migrated", version if own is None else of_value([version, own])
    with exclusive(settings, "airflow-database"):
        there = own is not None or (home / "airflow.db").is_file()
        if there and stamp.is_file() and stamp.read_text(encoding="utf-8") == done_for:
            return
        home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, env=environment(settings), capture_output=True, text=True, check=False)
        if done.returncode:
            raise TryAgainError(f"airflow db migrate ended with status {done.returncode}:\n{done.stderr[-2000:]}")
        stamp.write_text(done_for, encoding="utf-8")


def command(
    recipe: str, overrides: Sequence[str], revision: str | None, run: str, variants: Sequence[str] = ()
) -> list[str]:
    """The words that run a recipe's DAG once, in the foreground; exit status 1 if a task failed."""
    conf: dict[str, Any] = {
        "variants": list(variants),
        "overrides": list(overrides),
        "revision": revision,
        "run": run,
    }
    words = ["dags", "test", f"distill__{recipe}", "--conf", json.dumps(conf)]
    return [sys.executable, "-m", "kd_ops.launching.airflow_process", *words]
