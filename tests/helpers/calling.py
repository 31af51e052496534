"""`kd` called in this process, and a stand-in for Airflow that `kd run` starts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kd_ops import cli
from kd_ops.base.settings import Settings
from kd_ops.launching import airflow_run, launch
from kd_ops.resolving import resolve
from tests.helpers.fabricated import new_run

RUNNER = CliRunner()

WORKER = """\
import json, pathlib, sys, time
run, seconds, status = pathlib.Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
def stage(name, **values):
    (run / "stages").mkdir(exist_ok=True)
    (run / "stages" / f"{name}.json").write_text(json.dumps({"stage": name, "tries": 1, **values}))
stage("ingest@reference", status="done", seconds=1.0, exit_code=0)
stage("pretrain", status="running")
try:
    time.sleep(seconds)
except BaseException:
    stage("pretrain", status="failed", exit_code=143)
    raise
if status:
    stage("pretrain", status="failed", exit_code=status, error="lines before\\nerror: the teacher is gone; fetch it")
    print("noise of the scheduler")
    sys.exit(1)
stage("pretrain", status="done", cached=True, seconds=0.1, exit_code=0)
"""


def invoke(*words: str) -> Any:
    return RUNNER.invoke(cli.app, list(words))


def started(settings: Settings, monkeypatch: pytest.MonkeyPatch, seconds: float, status: int) -> list[Any]:
    """`kd run` with a stand-in for Airflow; the calls of the tracker that follow a bad end."""
    run, calls = new_run(settings, "started"), []
    monkeypatch.setattr(resolve, "resolve", lambda *_, **__: run)
    monkeypatch.setattr(launch, "stage_names", lambda *_: ["ingest@reference", "pretrain"])
    monkeypatch.setattr(airflow_run, "migrate", lambda _: None)
    words = [sys.executable, "-c", WORKER, str(Path(run.uri)), str(seconds), str(status)]
    monkeypatch.setattr(airflow_run, "command", lambda *_: words)
    monkeypatch.setattr(launch, "_track", lambda run, _, interrupted: calls.append(interrupted))
    return calls
