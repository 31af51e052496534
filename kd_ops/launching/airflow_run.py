"""How `kd run` starts Airflow: one machine, one DAG run, through `airflow dags test`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from kd_core.runtime.errors import TryAgainError
from kd_ops.base.locks import exclusive
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import tracking_uri


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
    return {**os.environ, **own}


def migrate(settings: Settings) -> None:
    """Bring Airflow's database to the installed version; costs nothing where that was done before.

    Raises TryAgainError with Airflow's last words if it fails.
    """
    version = importlib.metadata.version("apache-airflow")
    home = settings.home / "airflow"
    stamp = home / "migrated"
    with exclusive(settings, "airflow-database"):
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == version and (home / "airflow.db").is_file():
            return
        home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "airflow", "db", "migrate"]
        done = subprocess.run(command, env=environment(settings), capture_output=True, text=True, check=False)
        if done.returncode:
            raise TryAgainError(f"airflow db migrate ended with status {done.returncode}:\n{done.stderr[-2000:]}")
        stamp.write_text(version, encoding="utf-8")


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
