"""The runner `docker` on a real engine, with a small image in the place of the component image."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import PROJECT
from tests.containers.conftest import BASE, Docker
from tests.helpers.pods import Memory

pytest.importorskip("airflow")
pytestmark = pytest.mark.engine

DOCKERFILE = """\
FROM {base}
ENV PYTHONPATH=/app
COPY with_secrets.py module.py /app/
USER 10001:10001
ENTRYPOINT ["python3", "/app/with_secrets.py"]
"""


@pytest.fixture(scope="module")
def image(engine: Docker, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("image")
    (folder / "Dockerfile").write_text(DOCKERFILE.format(base=BASE))
    for path in (PROJECT / "docker/with_secrets.py", PROJECT / "tests/containers/module.py"):
        (folder / path.name).write_bytes(path.read_bytes())
    engine("build", "--quiet", "--tag", "kd-test-runner", str(folder))
    return engine("image", "inspect", "--format", "{{.Id}}", "kd-test-runner")


@pytest.fixture
def folder(image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """KD_HOME with a store on folders, for a worker that starts containers."""
    monkeypatch.setenv("KD_IMAGE", image)
    monkeypatch.setenv("KD_DOCKER_NETWORK", "none")
    monkeypatch.setenv("KD_HOME", str(tmp_path))
    monkeypatch.setenv("KD_STORE_URI", str(tmp_path / "store"))
    monkeypatch.setenv("KD_RUNS_URI", str(tmp_path / "runs"))
    return tmp_path


def operator(how: str, folder: Path, answers: bool = False) -> Any:
    from dags.runners.docker import ContainerOperator

    made = ContainerOperator(task_id=f"test-{how}", module="module", profile="cpu")
    made.words = lambda context: [how, str(folder)]
    made.answers = answers
    made.done = lambda context, answer: answer
    return made


def context(memory: Memory | None = None) -> dict[str, Any]:
    return {
        "ti": SimpleNamespace(dag_id="tests", task_id="t"),
        "task_state_store": Memory() if memory is None else memory,
    }


def left() -> str:
    return subprocess.run(
        ["docker", "ps", "--all", "--quiet", "--filter", "label=kd-pipelines"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


def test_a_status_becomes_its_exception_and_nothing_is_left(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dags.failures import InvalidData

    assert operator("0", folder).execute(context()) == {}
    assert "a line for the log cpu" in capsys.readouterr().out
    with pytest.raises(InvalidData, match="65"):
        operator("65", folder).execute(context())
    assert not left()


def test_an_answer_comes_from_its_file(folder: Path) -> None:
    assert operator("answer", folder, answers=True).execute(context()) == {"uid": os.getuid()}


def test_out_of_memory_gets_the_larger_profile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags import profiles
    from dags.failures import MoreMemory, OutOfMemory

    document = profiles._document()
    small = {**document["profiles"]["cpu"], "requests": {}, "limits": {"memory": "64Mi"}, "shm": "8Mi"}
    monkeypatch.setitem(document["profiles"], "cpu", {**small, "larger": "larger"})
    monkeypatch.setitem(document["profiles"], "larger", {**small, "limits": {"memory": "96Mi"}, "larger": None})
    memory = Memory()
    with pytest.raises(MoreMemory, match="larger"):
        operator("memory", folder).execute(context(memory))
    with pytest.raises(OutOfMemory) as caught:
        operator("memory", folder).execute(context(memory))
    assert type(caught.value) is OutOfMemory


def test_the_root_is_read_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    operator("root", folder).execute(context())
    assert "refused: Read-only file system" in capsys.readouterr().out


def test_secrets_are_files_and_no_part_of_the_container(
    folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    secrets = tmp_path_factory.mktemp("secrets")
    (secrets / "AWS_SECRET_ACCESS_KEY").write_text("from-a-file\n")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-worker")
    operator("secret", folder).execute(context())
    assert "] none  " in capsys.readouterr().out
    monkeypatch.setenv("KD_SECRETS", str(secrets))
    operator("secret", folder).execute(context())
    assert "] secret  " in capsys.readouterr().out


def at_work(task: Any) -> threading.Thread:
    """The task in a thread of its own; that it is stopped there is expected."""
    from dags.failures import ProcessFailed

    def work() -> None:
        with suppress(ProcessFailed):
            task.execute(context())

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def running(folder: Path) -> None:
    until = time.monotonic() + 60
    while not (folder / "started").exists():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_stop_lets_the_stage_write_its_checkpoint(folder: Path) -> None:
    task = operator("linger", folder)
    thread = at_work(task)
    running(folder)
    task.on_kill()
    thread.join(60)
    assert (folder / "checkpoint").read_text() == "saved"
    assert not left()


def test_a_try_stops_what_a_lost_worker_left(folder: Path) -> None:
    """The container of the earlier try lives on without its worker: it writes its checkpoint before the next starts."""
    from dags.runners import docker as runner

    task = operator("linger", folder)
    name = runner._name(context(), task.words(None))
    assert runner._start(task._client(), name, task._command(task.words(None)), runner.profile_of_try("cpu", context()))
    running(folder)
    task.words = lambda context: ["linger", str(folder)]
    (folder / "started").unlink()
    raised = at_work(task)
    running(folder)
    assert (folder / "checkpoint").read_text() == "saved"
    task.on_kill()
    raised.join(60)


def test_no_engine_is_75(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.failures import TryAgain

    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/nobody.sock")
    with pytest.raises(TryAgain, match="DOCKER_HOST"):
        operator("0", folder).execute(context())


def test_an_image_that_is_nowhere_is_75(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.failures import TryAgain

    monkeypatch.setenv("KD_IMAGE", f"sha256:{'0' * 64}")
    with pytest.raises(TryAgain, match="no image"):
        operator("0", folder).execute(context())
