"""compose.yaml and the cluster's objects, read without Docker or a cluster."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

CLUSTER = PROJECT / "docker/kubernetes"
COMPOSE: dict[str, Any] = yaml.safe_load((PROJECT / "docker/compose.yaml").read_text(encoding="utf-8"))
ONE_SHOT = {"init"}


def objects() -> list[dict[str, Any]]:
    """Every object of the kustomize bases."""
    files = [path for path in CLUSTER.rglob("*.yaml") if path.name not in ("kustomization.yaml", "airflow-values.yaml")]
    return [each for path in files for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))]


def test_every_file_of_the_cluster_is_in_its_base() -> None:
    for base in (CLUSTER, CLUSTER / "kueue"):
        listed = yaml.safe_load((base / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
        there = {path.name for path in base.glob("*.yaml")} - {"kustomization.yaml", "airflow-values.yaml"}
        assert set(listed) == there


def test_objects_are_what_kubernetes_takes() -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for each in objects():
        if "kueue" not in each["apiVersion"]:
            validator.validate(each, "1.32", strict=True)


def test_a_stages_account_may_do_nothing_and_airflows_reads_no_secret() -> None:
    bound = [subject["name"] for each in objects() if each["kind"] == "RoleBinding" for subject in each["subjects"]]
    assert "kd-stage" not in bound
    rules = [rule for each in objects() if each["kind"] == "Role" for rule in each["rules"]]
    assert not [rule for rule in rules if {"secrets", "pods/exec", "*"} & {*rule["resources"], *rule["verbs"]}]


def test_each_service_has_a_health_check_a_restart_policy_and_limits() -> None:
    for name, service in COMPOSE["services"].items():
        limits = service["deploy"]["resources"]["limits"]
        assert limits.keys() == {"cpus", "memory"}, name
        assert service["restart"], name
        image = service["image"]
        assert "healthcheck" in service or name in ONE_SHOT or image.startswith("kd-serving"), name


def test_ports_are_on_loopback() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_secrets_are_files_and_stand_in_no_environment() -> None:
    secrets = set(COMPOSE["secrets"])
    for name, service in COMPOSE["services"].items():
        assert not secrets & set(service.get("environment", {})), name
        assert set(service.get("secrets", [])) <= secrets, name


def test_every_secret_is_made(tmp_path: Path) -> None:
    """`make up-stack` makes them once; a second call keeps them."""
    words = [sys.executable, str(PROJECT / "docker/make_secrets.py"), str(tmp_path / "secrets")]
    subprocess.run(words, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").rglob("*") if path.is_file()}
    assert set(COMPOSE["secrets"]) == set(made)
    subprocess.run(words, check=True)
    assert all(path.read_text() == made[path.name] for path in (tmp_path / "secrets").rglob("*") if path.is_file())


def test_the_stack_starts_the_containers_that_the_runner_expects() -> None:
    environment = COMPOSE["services"]["airflow-scheduler"]["environment"]
    assert environment["KD_RUNNER"] == "docker"
    assert environment["KD_DOCKER_NETWORK"] == COMPOSE["networks"]["kd"]["name"]
    assert environment["KD_WORK_VOLUME"] == COMPOSE["volumes"]["work"]["name"]


def test_what_images_install_is_pinned() -> None:
    """Names stand in docker/requirements/, versions in requirements.lock and nowhere else."""
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lock}
    for path in (PROJECT / "docker/requirements").glob("*.txt"):
        names = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        assert {name.partition("[")[0].lower() for name in names} <= pinned, path.name
        assert "==" not in "".join(names)
