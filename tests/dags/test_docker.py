"""The runner `docker` without an engine: what a container is given. tests/containers/ has the rest."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.conftest import PROJECT

pytest.importorskip("airflow")
from dags.failures import WrongParams
from dags.profiles import profile
from dags.runners import docker

IMAGE = f"registry.example/kd@sha256:{'a' * 64}"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KD_HOME", "KD_CACHE_DIR", "KD_SECRETS", "KD_DOCKER_NETWORK", "KD_WORK_VOLUME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KD_STORE_URI", "s3://kd/store")
    monkeypatch.setenv("KD_RUNS_URI", "s3://kd/runs")
    monkeypatch.setenv("KD_IMAGE", IMAGE)


def test_a_gpu_profile_asks_for_a_gpu_and_a_cpu_profile_does_not() -> None:
    (asked,) = docker._host(profile("gpu"))["device_requests"]
    assert (asked["Count"], asked["Capabilities"]) == (1, [["gpu"]])
    assert "device_requests" not in docker._host(profile("cpu"))


def test_a_container_has_limits_and_may_do_little() -> None:
    host = docker._host(profile("cpu"))
    assert host["mem_limit"] == host["memswap_limit"] == 4 * 2**30
    assert host["shm_size"] == 256 * 2**20
    assert host["read_only"]
    assert host["cap_drop"] == ["ALL"]


def test_with_a_store_on_s3_nothing_of_the_machine_is_mounted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KD_HOME", "/home/somebody/.kd")
    monkeypatch.setenv("KD_WORK_VOLUME", "kd-work")
    work, answer, _ = docker._mounts()
    assert (work["Target"], work["Source"], work["Type"]) == ("/work", "kd-work", "volume")
    assert (answer["Target"], answer["Type"]) == ("/answer", "volume")
    assert docker._user() is None
    assert "KD_HOME" not in docker._environment()


def test_folders_are_mounted_once_under_their_own_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, path in {"KD_HOME": "home", "KD_STORE_URI": "home/store", "KD_RUNS_URI": "runs"}.items():
        monkeypatch.setenv(name, str(tmp_path / path))
    bound = {mount["Source"]: mount["Target"] for mount in docker._mounts() if mount["Type"] == "bind"}
    assert bound.pop(str(PROJECT / "recipes")) == "/app/recipes", "a recipe that no image has yet"
    assert bound == {str(tmp_path / name): str(tmp_path / name) for name in ("home", "runs")}
    assert docker._environment()["KD_HOME"] == str(tmp_path / "home")


def test_a_store_on_folders_needs_a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KD_STORE_URI", str(tmp_path))
    with pytest.raises(WrongParams, match="KD_HOME"):
        docker._mounts()


def test_no_secret_of_the_worker_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_PASSWORD", "HF_TOKEN"):
        monkeypatch.setenv(name, "never-passed-on")
    assert "never-passed-on" not in docker._environment().values()


def test_each_task_has_a_name_of_its_own_that_its_tries_share() -> None:
    def name(task: str, *words: str) -> str:
        ti = SimpleNamespace(dag_id="distill__route", task_id=task)
        return docker._name({"ti": ti}, words)

    assert name("teach", "--run", "r", "teach@a") == name("teach", "--run", "r", "teach@a")
    assert len({name("teach", "--run", run, f"teach@{item}") for run in "rs" for item in "ab"}) == 4


def test_lines_are_whole_however_they_come() -> None:
    assert list(docker._lines([b"one\ntw", b"o\r\n", b"", b"\xff three"])) == ["one", "two", "\ufffd three"]
