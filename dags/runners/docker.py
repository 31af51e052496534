"""The runner `docker`: each task is one container of the component image on a Docker engine (DOCKER_HOST).

Airflow's DockerOperator is not used: it has no read-only root, no limit of cores and no time to write a checkpoint, and
gives a container's exit status only inside a message. Its hook provides the connection.

If store, runs and KD_HOME are folders, they are mounted under their own paths, and the container runs as the Airflow
worker's user. The recipes are mounted over those of the image. With a store on S3 the container keeps its files in the
volume that KD_WORK_VOLUME names. Secrets are files, as in Docker: KD_SECRETS names a folder of the engine's machine,
which is mounted as /run/secrets.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import requests
from airflow.providers.docker.hooks.docker import DockerHook
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException
from docker.errors import APIError, DockerException, ImageNotFound, NotFound
from docker.types import DeviceRequest, Mount

from dags.failures import TryAgain, WrongParams
from dags.profiles import Profile, quantity
from dags.runners.memory import failure_of_try, profile_of_try
from dags.runners.tasks import ResolveTask, RunTask, StageTask, Task, TrackTask

GRACE_SECONDS = 120
"""Time for the checkpoint after SIGTERM."""

PASSED_ON = (
    "KD_STORE_URI",
    "KD_RUNS_URI",
    "KD_S3_ADDRESSING",
    "KD_S3_ENCRYPTION",
    "KD_KEEP_UNREGISTERED_DAYS",
    "MLFLOW_TRACKING_URI",
    "MLFLOW_S3_ENDPOINT_URL",
    "AWS_ENDPOINT_URL",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_CA_BUNDLE",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
)
"""Variables of the Airflow worker that a container gets; none is a secret."""

_RECIPES = Path(__file__).resolve().parents[2] / "recipes"
_FOLDERS = ("KD_HOME", "KD_STORE_URI", "KD_RUNS_URI", "KD_CACHE_DIR")
_ANSWER = "/answer"
_WORK = "/work"
_TMP = "/tmp"  # noqa: S108 -- the container's own, on disk: what lies in memory would count in its limit
_CONTAINER_SECONDS = 60
_PIDS = 4096


class ContainerOperator(Task):
    """Runs the module in a container.

    :param profile: the name of its profile in dags/profiles.yaml
    """

    def __init__(self, *, profile: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.profile = profile
        self._container: str | None = None

    def execute(self, context: Context) -> Any:
        """Run the container to its end; returns the task's result. Raises the failure class of its exit status."""
        words = self.words(context)
        used = profile_of_try(self.profile, context)
        try:
            client = self._client()
            self._container = _start(client, _name(context, words), self._command(words), used)
            for line in _lines(client.logs(self._container, stream=True, follow=True)):
                self.log.info("%s", line)
            status = _status(client, self._container)
            if status:
                raise failure_of_try(status, " ".join(["-m", self.module, *words]), used, context)
            return self.done(context, _answer(client, self._container) if self.answers else {})
        except ImageNotFound as error:
            raise TryAgain(f"the engine has no image {used.image()} and cannot pull it: {error.explanation}") from None
        except (DockerException, requests.RequestException) as error:
            raise TryAgain(f"the Docker engine does not do its work: {error}") from None
        finally:
            self._remove()

    def on_kill(self) -> None:
        """Stop the container and wait for its checkpoint."""
        if self._container is not None:
            with suppress(NotFound):
                self._client().stop(self._container, timeout=GRACE_SECONDS)
            self._remove()

    def _command(self, words: list[str]) -> list[str]:
        answer = ["--answer", f"{_ANSWER}/answer.json"] if self.answers else []
        return ["python", "-m", self.module, *words, *answer]

    def _client(self) -> Any:
        hook = DockerHook(
            docker_conn_id=os.environ.get("KD_DOCKER_CONNECTION"),
            base_url=os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock",
            timeout=GRACE_SECONDS + _CONTAINER_SECONDS,
        )
        try:
            return hook.api_client
        except AirflowException as error:
            raise TryAgain(f"{error} Is it running, and does DOCKER_HOST name it?") from None

    def _remove(self) -> None:
        if self._container is not None:
            with suppress(DockerException, requests.RequestException, TryAgain):
                self._client().remove_container(self._container, v=True, force=True)
            self._container = None


def _start(client: Any, name: str, command: list[str], used: Profile) -> str:
    """Create and start the container. First stop one that a lost worker left, so that it writes its checkpoint."""
    with suppress(NotFound):
        client.stop(name, timeout=GRACE_SECONDS)
        client.remove_container(name, v=True, force=True)
    image = used.image()
    if "@" in image and not client.images(name=image):
        client.pull(image)
    created = client.create_container(
        image,
        command,
        name=name,
        user=_user(),
        environment={**_environment(), **used.environment()},
        stop_signal="SIGTERM",
        labels={"kd-pipelines": "task", "kd-pipelines.profile": used.name},
        host_config=client.create_host_config(**_host(used)),
    )
    client.start(created["Id"])
    return str(created["Id"])


def _host(used: Profile) -> dict[str, Any]:
    """The container's resources and mounts; it may write only into its mounts."""
    memory = int(quantity(used.limits["memory"]))
    host: dict[str, Any] = {
        "mem_limit": memory,
        "memswap_limit": memory,
        "shm_size": int(quantity(used.shm)),
        "network_mode": os.environ.get("KD_DOCKER_NETWORK") or "bridge",
        "mounts": _mounts(),
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": _PIDS,
    }
    if "cpu" in used.limits:
        cores = min(quantity(used.limits["cpu"]), os.cpu_count() or 1)
        host["nano_cpus"] = int(cores * 1e9)
    if used.gpus:
        host["device_requests"] = [DeviceRequest(count=used.gpus, capabilities=[["gpu"]])]
    return host


def _mounts() -> list[Mount]:
    if paths := _local_folders():
        mounts = [Mount(path, path, "bind") for path in paths]
        mounts.append(Mount("/app/recipes", str(_RECIPES), "bind", read_only=True))
    else:
        mounts = [Mount(_WORK, os.environ.get("KD_WORK_VOLUME"), "volume")]
    mounts += [Mount(path, None, "volume") for path in (_ANSWER, _TMP)]
    if secrets := os.environ.get("KD_SECRETS"):
        mounts.append(Mount("/run/secrets", secrets, "bind", read_only=True))
    return mounts


def _local_folders() -> list[str]:
    """The folders of store, runs and home, each once; empty if the store is not on this machine.

    Raises WrongParams if the store is a folder and KD_HOME is not set.
    """
    if "://" in os.environ.get("KD_STORE_URI", "://"):
        return []
    if not os.environ.get("KD_HOME"):
        raise WrongParams("KD_STORE_URI is a folder: set KD_HOME too, which the container shares with this machine")
    given = [os.environ[name] for name in _FOLDERS if os.environ.get(name)]
    found = sorted({path for path in given if "://" not in path})
    outer = [path for path in found if not any(path.startswith(f"{other}/") for other in found)]
    for path in outer:
        os.makedirs(path, exist_ok=True)  # noqa: PTH103 -- the engine would make it for root
    return outer


def _user() -> str | None:
    """The worker's user if its folders are mounted; None: the user of the image."""
    return f"{os.getuid()}:{os.getgid()}" if _local_folders() else None


def _environment() -> dict[str, str]:
    own = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
    if _local_folders():
        own |= {name: os.environ[name] for name in ("KD_HOME", "KD_CACHE_DIR") if os.environ.get(name)}
        own["HF_HOME"] = f"{own['KD_HOME']}/huggingface"
    return own


def _name(context: Context, words: Iterable[str]) -> str:
    """The container's name: the same for each try of a task, so that a try finds what the previous one left."""
    task: Any = context["ti"]
    whole = " ".join([task.dag_id, task.task_id, *words])
    readable = re.sub(r"[^a-zA-Z0-9_.-]+", "-", f"{task.dag_id}-{task.task_id}")
    return f"kd-{readable}-{sha256(whole.encode()).hexdigest()[:12]}"


def _lines(chunks: Iterable[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line.decode("utf-8", "replace").rstrip() for line in whole)
    if rest:
        yield rest.decode("utf-8", "replace").rstrip()


def _status(client: Any, container: str) -> int:
    """The exit status; 137 if the kernel killed a process in the container for lack of memory."""
    status = int(client.wait(container)["StatusCode"])
    killed = client.inspect_container(container)["State"].get("OOMKilled")
    return 137 if status and killed else status


def _answer(client: Any, container: str) -> dict[str, Any]:
    try:
        chunks, _ = client.get_archive(container, f"{_ANSWER}/answer.json")
    except APIError as error:
        raise TryAgain(f"the container ended without an answer: {error.explanation}") from None
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        file = archive.extractfile("answer.json")
        answer: dict[str, Any] = json.loads(file.read()) if file else {}
    return answer


class ResolveOperator(ResolveTask, ContainerOperator):
    """`resolve` in a container."""


class RunOperator(RunTask, ContainerOperator):
    """A task on a run in a container."""


class TrackOperator(TrackTask, ContainerOperator):
    """The end of a run in a container."""


class StageOperator(StageTask, ContainerOperator):
    """A stage in a container."""
