"""A store, a registry or a disk that does not answer: one line, the right status, and no bug hidden behind it."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable

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
from sqlalchemy.exc import OperationalError

from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_ops import cli
from kd_ops.base import entry
from kd_ops.base.settings import Settings
from kd_ops.resolving import resolve
from kd_ops.resolving.addresses import Addresses
from kd_ops.runs.results import update_result
from kd_ops.serving.served import serve
from tests.helpers.calling import invoke
from tests.helpers.fabricated import finished_run


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
    monkeypatch.setattr("kd_ops.serving.served.connect", lambda _: Registry(code))
    with pytest.raises(kind, match="kd-route"):
        serve(address, settings)


@pytest.mark.parametrize(("code", "status"), [(RESOURCE_DOES_NOT_EXIST, 64), (INTERNAL_ERROR, 75)])
def test_a_registered_teacher_that_nobody_can_look_up_is_no_wrong_param(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, code: int, status: int
) -> None:
    monkeypatch.setattr("kd_ops.resolving.addresses.connect", lambda _: Registry(code))

    def look_up() -> None:
        Addresses(settings, []).model("models:/kd-route@champion", "teachers.last.weights")

    assert entry.ended(look_up) == status


def test_a_run_whose_version_was_deleted_is_shown(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(settings, "one")
    update_result(run, model={"name": "kd-route", "version": "7", "aliases": ["champion"]})
    monkeypatch.setattr("kd_ops.registry.registry.connect", lambda _: Registry(RESOURCE_DOES_NOT_EXIST))
    result = invoke("show", "one")
    assert result.exit_code == 0, result.output
    assert "kd-route version 7 (deleted from the registry since)" in result.output
    assert json.loads(invoke("show", "one", "--json").output)["model"]["aliases"] == []


@pytest.mark.parametrize("error", [MlflowException("wrong", error_code=INVALID_PARAMETER_VALUE), ValueError("wrong")])
def test_a_bug_in_a_closing_task_keeps_its_traceback(error: Exception) -> None:
    with pytest.raises(type(error), match="wrong"):
        entry.main_process(raising(error))


def raising(error: Exception) -> Callable[[], None]:
    def main() -> None:
        raise error

    return main
