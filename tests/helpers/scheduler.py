"""Airflow's real scheduler, API server and DAG processor (`airflow standalone`) on loopback, for a test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.helpers.tiny_project import environment


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Airflow:
    """A running standalone Airflow."""

    def __init__(self, url: str, log: Path) -> None:
        self.url = url
        self.log = log

    def ask(self, path: str, body: dict[str, Any] | None = None, method: str | None = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/api/v2/{path}", data=data, method=method)  # noqa: S310
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback, see `url`
            content: dict[str, Any] = json.loads(answer.read() or b"{}")
        return content

    def wait(self, what: str, ready: Any, seconds: float) -> Any:
        """Poll `ready` until it gives something true. Fails with the end of Airflow's log."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                if value := ready():
                    return value
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                pass
            time.sleep(2)
        raise AssertionError(f"{what} not within {seconds} s:\n{self.log.read_text(errors='replace')[-4000:]}")


@contextmanager
def standalone(project: Path, home: Path) -> Iterator[Airflow]:
    """Start Airflow for the project's DAGs and stop it, children included, at the end."""
    port, log_ports = free_port(), (free_port(), free_port())
    url = f"http://127.0.0.1:{port}"
    home.mkdir(parents=True, exist_ok=True)
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(log_ports[0]),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(log_ports[1]),
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MLFLOW_TRACKING_URI": f"sqlite:///{project / '.kd' / 'mlflow.db'}",
    }
    log = home / "standalone.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "airflow", "standalone"],
            cwd=project,
            env=environment(project, **settings),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        airflow = Airflow(url, log)
        airflow.wait(
            "a healthy Airflow", lambda: airflow.ask("monitor/health")["scheduler"]["status"] == "healthy", 240
        )
        yield airflow
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
