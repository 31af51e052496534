"""Reads dags/profiles.yaml: the runner of each task, and the resources that the task gets there."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dags.failures import WrongParams

FILE = Path(__file__).with_name("profiles.yaml")
GPU = "nvidia.com/gpu"
RUNNERS = ("local", "docker", "kubernetes")

_IMAGE = re.compile(r"(.+@)?sha256:[0-9a-f]{64}")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)(m|[KMGT]i?)?")
_UNITS = {"": 1.0, "m": 1e-3, **{unit: 1e3**power for power, unit in enumerate("KMGT", 1)}} | {
    f"{unit}i": 1024.0**power for power, unit in enumerate("KMGT", 1)
}


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The resources of one container."""

    name: str
    requests: Mapping[str, Any]
    """Resource → quantity that the scheduler sets aside."""
    limits: Mapping[str, Any]
    """Resource → quantity that the container cannot exceed."""
    shm: str
    """Size of /dev/shm, which is in memory and counts towards its limit."""
    larger: str | None
    """The profile of the single retry after memory ran out."""
    pool: str
    """Name of the pool in Airflow."""
    schedule_seconds: int
    """Longest wait of a pod for a node, in seconds."""
    startup_seconds: int
    """Longest start of its image and container after that, in seconds."""
    price_per_hour: float | None
    """Price in the user's currency; None: not known."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()

    @property
    def gpus(self) -> int:
        """Number of GPUs."""
        return int(self.limits.get(GPU, 0))

    def image(self) -> str:
        """The image, by digest: KD_IMAGE_GPU if there are GPUs and it is set, else KD_IMAGE.

        Raises WrongParams if there is none or it is a tag, since a tag may change its image in the middle of a run.
        """
        name = "KD_IMAGE_GPU" if self.gpus and os.environ.get("KD_IMAGE_GPU") else "KD_IMAGE"
        image = os.environ.get(name, "")
        if not _IMAGE.fullmatch(image):
            raise WrongParams(f"{name}={image!r}: give the component image by digest, as REGISTRY/NAME@sha256:…")
        return image

    def environment(self) -> dict[str, str]:
        """Variables that tell a stage about the container it runs in."""
        told = {"KD_IMAGE": self.image(), "KD_PROFILE": self.name}
        if self.price_per_hour is not None:
            told["KD_PRICE_PER_HOUR"] = str(self.price_per_hour)
        if "cpu" in self.limits:  # otherwise a library would start a thread for each core of the node
            told["OMP_NUM_THREADS"] = str(max(1, int(quantity(self.limits["cpu"]))))
        return told


@dataclass(frozen=True)
class Placement:
    """Where a task runs."""

    runner: str
    profile: Profile


def quantity(text: Any) -> float:
    """A quantity as Kubernetes writes it, in its base unit (cores, bytes). Raises WrongParams."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise WrongParams(f"{FILE.name}: {text!r} is no quantity; write it as 2, 500m or 4Gi")
    return float(found[1]) * _UNITS[found[2] or ""]


def placement(task: str) -> Placement:
    """Where a task runs by profiles.yaml and KD_RUNNER. Raises WrongParams that names the key."""
    return _placement(task, os.environ.get("KD_RUNNER", ""))


def profile(name: str) -> Profile:
    """A profile by name. Raises WrongParams that names the key."""
    given = _document()["profiles"].get(name)
    if given is None:
        raise WrongParams(f"{FILE.name}: there is no profile {name!r}")
    known = {each.name: each for each in fields(Profile) if each.name != "name"}
    needed = {key for key, each in known.items() if each.default is MISSING and each.default_factory is MISSING}
    if odd := sorted((set(given) - set(known)) | (needed - set(given))):
        raise WrongParams(f"{FILE.name}: profiles.{name}: {', '.join(odd)}: missing or unknown")
    read = Profile(name=name, **{**given, "tolerations": tuple(given.get("tolerations", ()))})
    _check(read)
    return read


def cluster() -> dict[str, str]:
    """The names of the cluster's objects."""
    names: dict[str, str] = _document()["kubernetes"]
    return names


def _check(read: Profile) -> None:
    place = f"{FILE.name}: profiles.{read.name}"
    for resource, amount in (*read.requests.items(), *read.limits.items()):
        if not quantity(amount) > 0:
            raise WrongParams(f"{place}: {resource}: must be above 0")
    if "memory" not in read.limits or quantity(read.shm) >= quantity(read.limits["memory"]):
        raise WrongParams(f"{place}: limits.memory must be given and larger than shm, which counts in it")
    over = [name for name, amount in read.requests.items() if _limit(read, name) < quantity(amount)]
    if over:
        raise WrongParams(f"{place}: {', '.join(over)}: the request is above the limit")
    if read.larger is not None and read.larger not in _document()["profiles"]:
        raise WrongParams(f"{place}: larger: there is no profile {read.larger!r}")


def _limit(read: Profile, resource: str) -> float:
    return quantity(read.limits[resource]) if resource in read.limits else float("inf")


@cache
def _placement(task: str, runner: str) -> Placement:
    document = _document()
    given = document["tasks"].get(task)
    if given is None:
        raise WrongParams(f"{FILE.name}: tasks has no {task!r}")
    own = given if isinstance(given, dict) else {"profile": given}
    chosen = own.get("runner") or runner or document["runner"]
    if chosen not in RUNNERS:
        raise WrongParams(f"runner {chosen!r} of {task}: KD_RUNNER and {FILE.name} know {', '.join(RUNNERS)}")
    return Placement(chosen, profile(own["profile"]))


@cache
def _document() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    return document
