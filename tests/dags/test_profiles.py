"""dags/profiles.yaml: every task has a place, and a wrong entry names its key."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

pytest.importorskip("airflow")
from dags import profiles
from dags.failures import WrongParams

STAGES = set(yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"])


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The file's content, to be changed by a test."""
    own = copy.deepcopy(profiles._document())
    monkeypatch.setattr(profiles, "_document", lambda: own)
    profiles._placement.cache_clear()
    monkeypatch.delenv("KD_RUNNER", raising=False)
    return own


def test_every_task_has_a_profile(document: dict[str, Any]) -> None:
    assert set(document["tasks"]) == STAGES | {"resolve", "track", "register", "promote"}
    assert {profiles.placement(task).runner for task in document["tasks"]} == {"local"}
    for name in document["profiles"]:
        assert profiles.profile(name).name == name


def test_the_environment_chooses_the_runner_and_a_task_keeps_its_own(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    document["tasks"]["promote"] = {"profile": "cpu", "runner": "local"}
    monkeypatch.setenv("KD_RUNNER", "docker")
    assert profiles.placement("teach").runner == "docker"
    assert profiles.placement("promote").runner == "local"


def test_a_larger_profile_has_more_memory(document: dict[str, Any]) -> None:
    for name in document["profiles"]:
        own = profiles.profile(name)
        if own.larger is not None:
            bigger = profiles.profile(own.larger)
            assert profiles.quantity(bigger.limits["memory"]) > profiles.quantity(own.limits["memory"])
            assert bigger.gpus == own.gpus


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("tasks", "teach"), "huge", "no profile 'huge'"),
        (("tasks", "teach"), {"profile": "gpu", "runner": "slurm"}, "runner 'slurm' of teach"),
        (("profiles", "gpu", "larger"), "huge", "larger: there is no profile 'huge'"),
        (("profiles", "gpu", "shmm"), "1Gi", "profiles.gpu: shmm"),
        (("profiles", "gpu", "shm"), "24Gi", "larger than shm"),
        (("profiles", "gpu", "requests", "memory"), "25Gi", "memory: the request is above the limit"),
        (("profiles", "gpu", "limits", "cpu"), "eight", "'eight' is no quantity"),
    ],
)
def test_a_wrong_entry_names_its_key(document: dict[str, Any], place: tuple[str, ...], value: Any, said: str) -> None:
    *parents, key = place
    part = document
    for parent in parents:
        part = part[parent]
    part[key] = value
    with pytest.raises(WrongParams, match=r"profiles\.yaml") as caught:
        profiles.placement("teach")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "amount"), [("2", 2.0), ("500m", 0.5), ("4Gi", 4 * 2**30), ("1G", 1e9), ("256Mi", 256 * 2**20), (1.5, 1.5)]
)
def test_quantities(text: Any, amount: float) -> None:
    assert profiles.quantity(text) == amount


def test_a_stage_is_told_its_profile_price_and_threads(
    document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = f"sha256:{'a' * 64}"
    monkeypatch.setenv("KD_IMAGE", image)
    told = profiles.profile("cpu").environment()
    assert told == {"KD_IMAGE": image, "KD_PROFILE": "cpu", "OMP_NUM_THREADS": "2"}
    document["profiles"]["cpu"]["price_per_hour"] = 0.25
    assert profiles.profile("cpu").environment()["KD_PRICE_PER_HOUR"] == "0.25"


def test_dag_files_are_told_apart_from_their_helpers() -> None:
    """What .airflowignore does not name is parsed as a DAG file, again and again."""
    ignored = (PROJECT / "dags/.airflowignore").read_text(encoding="utf-8").split()
    there = {path.name for path in Path(PROJECT / "dags").glob("*.py")} - {"__init__.py"}
    assert there - set(ignored) == {"distill.py"}
    assert "runners/" in ignored
