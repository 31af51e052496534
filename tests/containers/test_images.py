"""The images: how large they are, what they run as, and what a change of code costs."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.containers.conftest import BASE, NETWORK, Docker

pytestmark = pytest.mark.engine

SLIM_BYTES = 130e6
"""What the public python:3.11-slim takes, in whose place an engine without a registry may have a larger base."""


def inspected(engine: Docker, image: str) -> dict[str, Any]:
    (about,) = json.loads(engine("image", "inspect", image))
    return dict(about)


def size(engine: Docker, image: str, on_base: bool = True) -> float:
    """Bytes of an image on the public base."""
    own = float(inspected(engine, image)["Size"])
    return own - float(inspected(engine, BASE)["Size"]) + SLIM_BYTES if on_base else own


def test_images_are_small(engine: Docker, images: dict[str, str]) -> None:
    assert size(engine, images["component"]) <= 1.6e9
    assert size(engine, images["serving"], on_base=False) <= 350e6


@pytest.mark.parametrize("name", ["component", "serving", "airflow", "s3"])
def test_an_image_has_a_numeric_user_labels_and_no_secret(engine: Docker, images: dict[str, str], name: str) -> None:
    about = inspected(engine, images[name])
    assert about["Config"]["User"] == "10001:10001"
    assert about["Config"]["Labels"]["org.opencontainers.image.title"] == f"kd-{name}"
    said = json.dumps(about) + engine("history", "--no-trunc", images[name])
    assert not [word for word in ("SECRET=", "PASSWORD=", "TOKEN=") if word in said]


def test_the_serving_image_tells_its_health(engine: Docker, images: dict[str, str]) -> None:
    assert inspected(engine, images["serving"])["Config"]["Healthcheck"]["Test"]


@pytest.mark.parametrize("name", ["serving", "airflow"])
def test_only_the_component_image_has_torch(engine: Docker, images: dict[str, str], name: str) -> None:
    code = "import importlib.util as u; print([m for m in ('torch', 'transformers') if u.find_spec(m)])"
    python = "/opt/venv/bin/python"
    assert engine("run", "--rm", "--network=none", "--entrypoint", python, images[name], "-c", code) == "[]"


def test_a_component_works_without_network_and_with_a_read_only_root(engine: Docker, images: dict[str, str]) -> None:
    words = ["run", "--rm", "--read-only", "--network=none", "--cap-drop=ALL", "--tmpfs=/tmp", "--tmpfs=/work"]
    said = engine(*words, images["component"], "python", "-m", "kd_ops.cli", "--help")
    assert "Usage" in said


def test_airflow_reads_its_dags(engine: Docker, images: dict[str, str]) -> None:
    code = "from dags import distill; print(sorted(name for name in vars(distill) if name.startswith('distill__')))"
    for runner in ("docker", "kubernetes"):
        words = [
            "run",
            "--rm",
            "--network=none",
            "--env",
            f"KD_RUNNER={runner}",
            images["airflow"],
            "python",
            "-c",
            code,
        ]
        assert "distill__route" in engine(*words)


def test_a_change_of_code_is_one_small_layer(engine: Docker, images: dict[str, str], tmp_path: Path) -> None:
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=PROJECT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(tmp_path)], input=archive, check=True)
    (tmp_path / "kd_ops/base/changed.py").write_text("CHANGED = True\n")
    sha = inspected(engine, images["component"])["Config"]["Labels"]["org.opencontainers.image.revision"]
    network = [] if NETWORK == "bridge" else [f"--network={NETWORK}"]
    words = ["--file", f"{tmp_path}/docker/component.Dockerfile", "--build-arg", f"GIT_SHA={sha}", *network]
    engine("build", "--quiet", "--tag", "kd-test-changed", *words, str(tmp_path))
    before, after = (inspected(engine, name)["RootFS"]["Layers"] for name in (images["component"], "kd-test-changed"))
    assert before[:-1] == after[:-1]
    assert before[-1] != after[-1]
    history = engine("history", "--human=false", "--format", "{{.Size}}", "kd-test-changed").split()
    assert next(int(each) for each in history if int(each)) < 5e6


def test_compose_is_valid(engine: Docker, tmp_path: Path) -> None:
    client = compose()
    subprocess.run(["python3", str(PROJECT / "docker/make_secrets.py"), str(tmp_path / "secrets")], check=True)
    given = {"KD_IMAGE": f"sha256:{'a' * 64}", "KD_SECRETS_FOLDER": str(tmp_path / "secrets"), "DOCKER_GROUP": "0"}
    words = [*client, "--file", str(PROJECT / "docker/compose.yaml"), "config", "--quiet"]
    done = subprocess.run(words, env={**os.environ, **given}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def compose() -> list[str]:
    """The client of Docker Compose; skips without one."""
    for words in (["docker", "compose"], ["docker-compose"]):
        try:
            if subprocess.run([*words, "version"], capture_output=True, check=False).returncode == 0:
                return words
        except FileNotFoundError:
            continue
    pytest.skip("Docker Compose is not installed")
