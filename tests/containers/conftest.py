"""A Docker engine (DOCKER_HOST) for tests that need one; they are run by `make test-containers`."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest

from tests.conftest import PROJECT

BASE = os.environ.get("KD_TEST_BASE", "python:3.11-slim")
NETWORK = os.environ.get("KD_TEST_NETWORK", "bridge")
"""`host` for an engine without a bridge."""

Docker = Callable[..., str]


def docker(*words: str, check: bool = True) -> str:
    """What the client prints on both streams; fails with it where it ends badly."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return (done.stdout + done.stderr).strip()


@pytest.fixture(scope="session")
def engine() -> Docker:
    """The client of an engine that answers; skips otherwise."""
    if not os.environ.get("KD_TEST_CONTAINERS"):
        pytest.skip("needs a Docker engine: make test-containers runs it")
    if shutil.which("docker") is None or "Server Version" not in docker("info", check=False):
        pytest.skip("no Docker engine answers: start one, or set DOCKER_HOST")
    return docker


@pytest.fixture(scope="session")
def images(engine: Docker) -> dict[str, str]:
    """Image → id, built from the files of HEAD, or those that KD_TEST_IMAGES=built says are there."""
    names = ("component", "serving", "airflow", "s3")
    if os.environ.get("KD_TEST_IMAGES") != "built":
        options = os.environ.get("BUILD_OPTIONS", "" if NETWORK == "bridge" else f"--network={NETWORK}")
        environment = {**os.environ, "BUILD_OPTIONS": options}
        subprocess.run(["sh", str(PROJECT / "docker/build.sh"), *names], env=environment, check=True)
    return {name: engine("image", "inspect", "--format", "{{.Id}}", f"kd-{name}:dev") for name in names}
