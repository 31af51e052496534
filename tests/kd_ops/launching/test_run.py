"""`kd run`: what it starts, how it ends, and what it says when a stage or the user is wrong."""

from __future__ import annotations

import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from rich.console import Console

from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.display.board import Board
from kd_ops.launching import airflow_run, launch
from kd_ops.runs.runs import Run
from tests.helpers.calling import invoke, started


def test_run_ends_well_and_says_what_was_computed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = started(settings, monkeypatch, 0.0, 0)
    result = invoke("run")
    assert result.exit_code == 0, result.output
    assert "✓ ingest@reference" in result.output
    assert "= pretrain" in result.output
    assert "1 of 2 stages computed, 1 unchanged" in result.output
    assert calls == [], "Airflow's own closing tasks have logged the run"


def test_a_failed_stage_gives_its_status_message_and_log(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = started(settings, monkeypatch, 0.0, 65)
    result = invoke("run")
    assert result.exit_code == 65
    assert "stage 2/2 pretrain failed with exit status 65" in result.output
    assert "error: the teacher is gone; fetch it" in result.output
    assert "lines before" not in result.output
    assert "logs/pretrain.log" in result.output.replace("\n", "")
    assert "unfinished work resumes" in result.output.replace(" \n", " ")
    log = Run.named("started", settings).local_path("logs/airflow.log")
    assert log is not None
    assert "noise of the scheduler" in log.read_text()
    assert "noise" not in result.output
    assert calls == [False]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_passed_on_and_waited_for(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, kind: signal.Signals
) -> None:
    calls = started(settings, monkeypatch, 60.0, 0)
    run = Run.named("started", settings)
    helper = [sys.executable, "-c", KILLER, str(os.getpid()), str(int(kind)), f"{run.uri}/stages/pretrain.json"]
    with subprocess.Popen(helper):
        began = time.monotonic()
        status = launch.launch("airflow", None, [], None, Console(file=open(os.devnull, "w")), settings)  # noqa: PTH123, SIM115
    assert status == 128 + kind
    assert time.monotonic() - began < 50
    assert calls == [True]


KILLER = """\
import os, pathlib, sys, time
while not pathlib.Path(sys.argv[3]).exists():
    time.sleep(0.05)
time.sleep(0.3)
os.kill(int(sys.argv[1]), int(sys.argv[2]))
"""


def test_a_killed_command_line_leaves_nothing_working(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with subprocess.Popen([sys.executable, "-c", WATCHER, str(tmp_path)]) as watcher:
        while not pid.is_file() or not pid.read_text():
            assert watcher.poll() is None
            time.sleep(0.05)
        status = Path(f"/proc/{pid.read_text()}/stat")
        assert status.exists()
        watcher.kill()
    deadline = time.monotonic() + 20
    while status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline, "an orphan goes on working"
        time.sleep(0.05)


WATCHER = """\
import os, sys, time
from pathlib import Path
from kd_ops.display.watch import Child
folder = Path(sys.argv[1])
code = f"import os, pathlib, time; pathlib.Path('{folder}/pid').write_text(str(os.getpid())); time.sleep(60)"
with Child([sys.executable, "-c", code], os.environ, folder, folder / "log").running():
    time.sleep(60)
"""


def test_wrong_params_end_at_once_in_one_line(settings: Settings) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kd_ops.cli", "run", "-S", "finetune.alfa=0.5"],
        capture_output=True,
        text=True,
        env={**os.environ, "KD_HOME": str(settings.home)},
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode == 64
    assert "finetune.alfa: unknown key; did you mean 'alpha'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (settings.home / "airflow").exists(), "Airflow is not started for nothing"


def test_a_failure_outside_the_stages_is_found_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "airflow.log"
    said = "INFO error: models/student: no stage wrote it [airflow.task] loc=runners.py:62"
    ended = "ProcessFailed: -m kd_ops.registering.register --run x ended with status 75; its message stands above"
    log.write_text(f"noise\n{said}\n{ended}\n")
    out = Console(record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    assert launch._explain_step(1, log, out) == 75
    assert (
        "kd_ops.registering.register failed with exit status 75\n  error: models/student: no stage wrote it\n"
        in out.export_text()
    )


def test_a_run_goes_on_while_its_folder_cannot_be_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    started(settings, monkeypatch, 0.0, 0)
    poll, hiccups = Board.poll, [EndpointConnectionError(endpoint_url="http://store")]

    def hiccup(board: Board) -> Any:
        if hiccups:
            raise hiccups.pop()
        return poll(board)

    monkeypatch.setattr(Board, "poll", hiccup)
    result = invoke("run")
    assert result.exit_code == 0, result.output
    assert "1 of 2 stages computed, 1 unchanged" in result.output


def test_airflow_gets_the_words_of_the_user(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    words = airflow_run.command("route", ["a.b=1", 'c="x y"'], "1.43.0", "run-1", ["tkd", "self_attention"])
    assert words[1:6] == ["-m", "kd_ops.launching.airflow_process", "dags", "test", "distill__route"]
    variants = {"variants": ["tkd", "self_attention"]}
    assert json.loads(words[-1]) == {
        **variants,
        "overrides": ["a.b=1", 'c="x y"'],
        "revision": "1.43.0",
        "run": "run-1",
    }
    environment = airflow_run.environment(settings)
    assert environment["AIRFLOW_HOME"] == str(settings.home / "airflow")
    assert environment["AIRFLOW__CORE__DAGS_FOLDER"] == str(PROJECT / "dags")
    assert environment["KD_STORE_URI"] == settings.store_uri


def test_airflow_itself_runs_in_the_process_that_collects_rarely() -> None:
    words = [sys.executable, "-m", "kd_ops.launching.airflow_process", "version"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=PROJECT, check=True)
    assert done.stdout.split()[-1] == importlib.metadata.version("apache-airflow")


def test_the_database_is_migrated_once_for_each_version(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def migrate(words: list[str], **_: Any) -> Any:
        calls.append(words[2:])
        (settings.home / "airflow" / "airflow.db").touch()
        return subprocess.CompletedProcess(words, 0, "", "")

    monkeypatch.setattr(subprocess, "run", migrate)
    airflow_run.migrate(settings)
    airflow_run.migrate(settings)
    assert calls == [["airflow", "db", "migrate"]]
    (settings.home / "airflow" / "migrated").write_text("2.0.0")
    airflow_run.migrate(settings)
    assert len(calls) == 2


def test_a_recipe_file_is_for_repro(settings: Settings) -> None:
    result = invoke("run", "--recipe", "mine.yaml")
    assert isinstance(result.exception, ParamsError)
    assert "kd repro" in str(result.exception)
