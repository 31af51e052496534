"""The tiny recipe with the runner `docker`, its champion over HTTP, and a stage's pod under podman."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.containers.conftest import Docker
from tests.helpers.pods import IMAGES, dag, manifest, operator
from tests.helpers.scheduler import free_port
from tests.helpers.tiny_project import kd, make

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def project(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny project after a run in containers, none of which asks for a GPU."""
    folder = make(tmp_path_factory.mktemp("tiny"))
    profiles = folder / "dags/profiles.yaml"
    document = yaml.safe_load(profiles.read_text(encoding="utf-8"))
    document["tasks"] = dict.fromkeys(document["tasks"], "cpu")
    profiles.write_text(yaml.safe_dump(document), encoding="utf-8")
    environment = {"KD_RUNNER": "docker", "KD_IMAGE": images["component"], "KD_DOCKER_NETWORK": "none"}
    done = kd(folder, "run", "--recipe", "tiny", timeout=1700, **environment)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return folder


def shown(project: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(kd(project, "show", "--json").stdout)
    return content


def test_the_tiny_recipe_runs_in_containers(project: Path, images: dict[str, str]) -> None:
    run = shown(project)
    assert {stage["status"] for stage in run["stages"].values()} == {"done"}
    assert not any(stage["cached"] for stage in run["stages"].values())
    assert run["model"]["aliases"] == ["champion"]
    records = [json.loads(path.read_text()) for path in (project / ".kd/runs" / run["run"] / "stages").glob("*.json")]
    assert {record["profile"] for record in records} == {"cpu"}
    origins = [json.loads(path.read_text()) for path in (project / ".kd/store/provenance").glob("*/*/*.json")]
    assert {origin["image"] for origin in origins} == {images["component"]}


def test_the_champion_answers_over_http(project: Path, engine: Docker, images: dict[str, str]) -> None:
    registry, own = free_port(), free_port()
    database = f"sqlite:///{project}/.kd/mlflow.db"
    words = ["-m", "mlflow", "server", "--port", str(registry), "--workers", "1", "--backend-store-uri", database]
    with subprocess.Popen([sys.executable, *words], start_new_session=True) as server:
        wait(f"http://127.0.0.1:{registry}/health")
        environment = {"KD_MODEL": "models:/kd-tiny@champion", "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{registry}"}
        options = [word for name, value in environment.items() for word in ("--env", f"{name}={value}")]
        place = f"{project}/.kd/mlartifacts"
        limits = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--network=host", f"--volume={place}:{place}:ro"]
        container = engine("run", "--detach", *limits, *options, "--env", f"KD_PORT={own}", images["serving"])
        try:
            wait(f"http://127.0.0.1:{own}/ping", lambda: engine("logs", container))
            texts = {"dataframe_records": [{"text": "the small apple gets a"}, {"text": "a river is there"}]}
            request = urllib.request.Request(
                f"http://127.0.0.1:{own}/invocations",
                data=json.dumps(texts).encode(),
                headers={"Content-Type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 -- loopback
                rows = json.load(answer)["predictions"]
            assert [row["label"] in {"red", "green", "blue"} for row in rows] == [True, True]
        finally:
            engine("rm", "--force", container)
            os.killpg(server.pid, signal.SIGKILL)


def test_a_stages_pod_runs_under_podman(
    project: Path, images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest as the cluster would get it, with the store's folder and the settings beside it."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed")
    for name, value in IMAGES.items():
        monkeypatch.setenv(name, value)
    run = shown(project)["run"]
    task = operator(dag().get_task("report"))
    task.run_uri = f"{project}/.kd/runs/{run}"
    pod = manifest(task)
    for record in (project / ".kd/runs" / run).glob("*/report.json"):
        record.unlink()
    saved = subprocess.Popen(["docker", "save", "kd-component:dev"], stdout=subprocess.PIPE)
    image = podman("load", "--quiet", stdin=saved.stdout).rpartition(" ")[2]
    place = on_this_machine(pod, image, str(project / ".kd"))
    settings = {"KD_STORE_URI": f"{place}/store", "KD_RUNS_URI": f"{place}/runs", "KD_HOME": place}
    documents = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kd-settings"}, "data": settings},
        pod,
    ]
    (tmp_path / "pod.yaml").write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    try:
        podman("kube", "play", "--network=none", str(tmp_path / "pod.yaml"))
        name = f"{pod['metadata']['name']}-base"
        assert podman("wait", name) == "0", podman("logs", name)
    finally:
        podman("kube", "down", str(tmp_path / "pod.yaml"))
    assert shown(project)["stages"]["report"]["status"] == "done"


def on_this_machine(pod: dict[str, Any], image: str, folder: str) -> str:
    """Give the pod a folder of this machine, the image that is here and this user; take what a cluster alone has."""
    (container,) = pod["spec"]["containers"]
    pod["metadata"].pop("namespace")
    pod["spec"]["volumes"].append({"name": "store", "hostPath": {"path": folder, "type": "Directory"}})
    container["volumeMounts"].append({"name": "store", "mountPath": folder})
    container["image"] = image
    container["envFrom"] = [source for source in container["envFrom"] if "configMapRef" in source]
    pod["spec"]["securityContext"] |= {"runAsUser": os.getuid(), "runAsNonRoot": False}
    return folder


def podman(*words: str, stdin: Any = None) -> str:
    done = subprocess.run(["podman", *words], stdin=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def wait(url: str, told: Callable[[], str] = lambda: "") -> None:
    """Until it answers."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        try:
            urllib.request.urlopen(url, timeout=5)  # noqa: S310 -- loopback
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} does not answer: {told()}")


def test_a_process_reuses_what_containers_computed(project: Path) -> None:
    """Except for timings, and the report that shows them: a container's limits make another machine of it."""
    assert kd(project, "run", "--recipe", "tiny").returncode == 0
    computed = {name for name, stage in shown(project)["stages"].items() if not stage["cached"]}
    assert computed <= {"measure", "report"}
