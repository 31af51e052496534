"""The command line: what it starts, how it ends, and what it says when something is wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError, EndpointConnectionError
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    TEMPORARILY_UNAVAILABLE,
)
from rich.console import Console
from sqlalchemy.exc import OperationalError
from typer.testing import CliRunner

from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_ops import airflow_run, cli, entry, launch, resolve
from kd_ops.addresses import Addresses
from kd_ops.board import Board
from kd_ops.predict import Question
from kd_ops.results import update_result
from kd_ops.runs import Run
from kd_ops.served import ServedModel, serve
from kd_ops.settings import PROJECT, Settings
from tests.code.fabricated import finished_run, make_settings, new_run

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


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = make_settings(tmp_path)
    monkeypatch.setenv("KD_HOME", str(found.home))
    return found


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
from kd_ops.watch import Child
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
    ended = "ProcessFailed: -m kd_ops.register --run x ended with status 75; its message stands above"
    log.write_text(f"noise\n{said}\n{ended}\n")
    out = Console(record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    assert launch._explain_step(1, log, out) == 75
    assert (
        "kd_ops.register failed with exit status 75\n  error: models/student: no stage wrote it\n" in out.export_text()
    )


@pytest.mark.parametrize(
    "error",
    [
        MlflowException("no answer", error_code=INTERNAL_ERROR),
        MlflowException("no answer", error_code=TEMPORARILY_UNAVAILABLE),
        requests.ConnectionError("no answer"),
        requests.Timeout("no answer"),
    ],
)
def test_a_closing_task_whose_mlflow_does_not_answer_is_tried_again(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        entry.main_process(raising(error))
    assert ended.value.code == 75
    assert capsys.readouterr().err.startswith("error: MLflow or its database does not answer")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (OperationalError("SELECT 1", {}, Exception("unable to open database file")), 75, "MLflow or its database"),
        (EndpointConnectionError(endpoint_url="http://store"), 75, "KD_STORE_URI"),
        (ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"), 75, "KD_STORE_URI"),
        (PermissionError(errno.EACCES, "Permission denied", "/runs"), 75, "KD_RUNS_URI"),
        (OSError(errno.EROFS, "Read-only file system", "/runs"), 75, "KD_RUNS_URI"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/file/runs"), 64, "KD_RUNS_URI"),
        (MemoryError(), 137, "out of memory"),
        (TryAgainError("no answer from https://user:hunter2@host/"), 75, "https://***@host/"),
    ],
)
def test_an_outage_is_no_bug_wherever_it_happens(
    error: Exception, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert entry.ended(raising(error)) == status
    line = capsys.readouterr().err
    assert line.startswith("error: ")
    assert said in line
    assert "Traceback" not in line


def test_a_refused_connection_of_mlflow_is_not_the_stores(capsys: pytest.CaptureFixture[str]) -> None:
    error = MlflowException("API request failed", error_code=INTERNAL_ERROR)
    error.__context__ = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
    assert entry.ended(raising(error)) == 75
    assert "MLflow or its database does not answer" in capsys.readouterr().err


def test_a_store_that_does_not_answer_is_tried_again_by_the_first_task(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in {
        "KD_STORE_URI": "s3://no-bucket/store",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
    }.items():
        monkeypatch.setenv(name, value)
    assert resolve.main(["--recipe", "route"]) == 75
    said = capsys.readouterr()
    assert (said.out, said.err.count("error: ")) == ("", 1)
    assert "127.0.0.1:9" in said.err


def test_gc_without_mlflow_is_one_line(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(sys, "argv", ["kd", "gc"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 75
    assert "error: MLflow or its database does not answer" in capsys.readouterr().err


class Registry:
    """A registry that answers everything with one error."""

    def __init__(self, code: int) -> None:
        self._error = MlflowException("said the registry", error_code=code)

    def get_model_version(self, name: str, number: str) -> None:
        raise self._error

    get_model_version_by_alias = get_model_version


@pytest.mark.parametrize(
    ("code", "kind"),
    [(RESOURCE_DOES_NOT_EXIST, ParamsError), (INTERNAL_ERROR, TryAgainError), (PERMISSION_DENIED, TryAgainError)],
)
@pytest.mark.parametrize("address", ["models:/kd-route/1", "models:/kd-route@champion"])
def test_only_what_is_not_there_is_the_users_mistake(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, address: str, code: int, kind: type[Exception]
) -> None:
    monkeypatch.setattr("kd_ops.served.connect", lambda _: Registry(code))
    with pytest.raises(kind, match="kd-route"):
        serve(address, settings)


@pytest.mark.parametrize(("code", "status"), [(RESOURCE_DOES_NOT_EXIST, 64), (INTERNAL_ERROR, 75)])
def test_a_registered_teacher_that_nobody_can_look_up_is_no_wrong_param(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    monkeypatch.setattr("kd_ops.addresses.connect", lambda _: Registry(code))

    def look_up() -> None:
        Addresses(settings, []).model("models:/kd-route@champion", "teachers.last.weights")

    assert entry.ended(look_up) == status


def test_a_run_whose_version_was_deleted_is_shown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(settings, "one")
    update_result(run, model={"name": "kd-route", "version": "7", "aliases": ["champion"]})
    monkeypatch.setattr("kd_ops.registry.connect", lambda _: Registry(RESOURCE_DOES_NOT_EXIST))
    result = invoke("show", "one")
    assert result.exit_code == 0, result.output
    assert "kd-route version 7 (deleted from the registry since)" in result.output
    assert json.loads(invoke("show", "one", "--json").output)["model"]["aliases"] == []


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


@pytest.mark.parametrize("error", [MlflowException("wrong", error_code=INVALID_PARAMETER_VALUE), ValueError("wrong")])
def test_a_bug_in_a_closing_task_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="wrong"):
        entry.main_process(raising(error))


def raising(error: Exception) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main


def test_airflow_gets_the_words_of_the_user(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    words = airflow_run.command("route", ["a.b=1", 'c="x y"'], "1.43.0", "run-1", ["tkd", "self_attention"])
    assert words[1:6] == ["-m", "airflow", "dags", "test", "distill__route"]
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


def test_show_prints_json_that_parses(settings: Settings) -> None:
    finished_run(settings, "one")
    result = invoke("show", "one", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["run"] == "one"
    assert isinstance(invoke("show", "two").exception, ParamsError)


def test_a_run_is_laid_out_for_dvc(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished_run(settings, "one")
    monkeypatch.chdir(tmp_path)
    assert invoke("checkout", "one").exit_code == 0
    assert {"dvc.yaml", "dvc.lock", "params.yaml", ".dvc", "kd_core"} <= {path.name for path in Path("one").iterdir()}
    assert isinstance(invoke("checkout", "one").exception, ParamsError)
    assert invoke("checkout", "one", "elsewhere/one").exit_code == 0
    assert isinstance(invoke("checkout", "none").exception, ParamsError)


def test_predict_refuses_contradictions(tmp_path: Path) -> None:
    for question, said in {
        Question((), (), None, None, None, False): "give either texts, or --input",
        Question(("a",), (), tmp_path, tmp_path, None, False): "give either texts, or --input",
        Question((), (), tmp_path, None, None, False): "belong together",
        Question(("a", "b"), ("c",), None, None, None, False): "one for each text",
        Question(("a",), (), None, None, None, False, ("text=body",)): "--column names columns of --input",
    }.items():
        with pytest.raises(ParamsError, match=said):
            question.check()


def test_predict_hands_texts_over_as_json_lines(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    def answered(self: Any, arguments: list[str], texts: str | None = None, costs: Any = None) -> str:
        seen.append((self.student, arguments, texts))
        answer = {"label": "red", "probability": 0.91, "exit_layer": 1, "entropy": 0.1}
        return "".join(json.dumps({**json.loads(line), **answer}) + "\n" for line in (texts or "").splitlines())

    monkeypatch.setattr("kd_ops.served.ServedModel.predict", answered)
    words = ("predict", "--model", str(tmp_path), "--threshold", "0.2", "an [odd] text", "שלום 🙂")
    result = invoke(*words)
    assert result.exit_code == 0, result.output
    assert "an [odd] text" in result.output
    assert "91.0%" in result.output
    assert seen[0][:2] == (tmp_path, ["--threshold", "0.2"])
    assert [json.loads(line)["text"] for line in seen[0][2].splitlines()] == ["an [odd] text", "שלום 🙂"]
    lines = invoke(*words, "--json").output.splitlines()
    assert json.loads(lines[1]) == {
        "text": "שלום 🙂",
        "label": "red",
        "probability": 0.91,
        "exit_layer": 1,
        "entropy": 0.1,
    }


def test_predict_hands_a_wish_and_a_log_over_to_versions_that_know_them(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    answer = json.dumps({"text": "a", "label": "red", "probability": 0.9, "exit_layer": 1, "entropy": 0.1})
    monkeypatch.setattr(
        "kd_ops.served.ServedModel.predict", lambda self, words, texts=None, costs=None: seen.append(words) or answer
    )
    monkeypatch.chdir(tmp_path)
    words = ("predict", "--model", str(tmp_path), "--max-disagreement", "0.01", "--log", "log", "a")
    (tmp_path / "inference.json").write_text('{"threshold": 0.2}')
    old = invoke(*words).exception
    assert isinstance(old, ParamsError)
    assert "registered before exits were calibrated" in str(old)
    (tmp_path / "inference.json").write_text('{"dial": {}}')
    assert invoke(*words).exit_code == 0
    assert seen == [["--max-disagreement", "0.01", "--log", str(tmp_path / "log")]], "the process runs elsewhere"
    assert isinstance(invoke(*words, "--threshold", "0.1").exception, ParamsError)


def test_predict_hands_a_file_s_columns_over(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(
        "kd_ops.served.ServedModel.predict", lambda self, arguments, texts=None, costs=None: seen.append(arguments)
    )
    files = ("--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.csv"))
    result = invoke("predict", "--model", str(tmp_path), *files, "--column", "text=body", "--column", "text_pair=reply")
    assert result.exit_code == 0, result.output
    assert seen == [["--column", "text=body", "--column", "text_pair=reply", *files]]


@pytest.mark.parametrize(("recorded", "words"), [({}, []), ({"text": "text_pair"}, ["--column", "text=text"])])
def test_the_gate_s_own_columns_are_not_taken_for_the_training_data_s(
    tmp_path: Path, recorded: dict[str, str], words: list[str]
) -> None:
    """Versions whose record knows no other names may come with code that does not know the option either."""
    (tmp_path / "inference.json").write_text(json.dumps({"columns": recorded} if recorded else {}))
    assert ServedModel(tmp_path, tmp_path).as_named(["text"]) == words


def test_help_is_fast_because_nothing_heavy_is_imported() -> None:
    code = "import sys, kd_ops.cli; print(sorted({'mlflow', 'dvc', 'torch', 'pandas', 'airflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PROJECT)
    assert done.stdout.strip() == "[]"
