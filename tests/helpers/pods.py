"""The pods that a recipe's tasks become with the runner `kubernetes`, rendered without a cluster."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

IMAGES = {
    "KD_RUNNER": "kubernetes",
    "KD_IMAGE": f"registry.example/kd-component@sha256:{'c' * 64}",
    "KD_IMAGE_GPU": f"registry.example/kd-component@sha256:{'9' * 64}",
}
RUN_URI = "s3://kd/runs/weekly"
ITEMS = {"ingest": "reference", "validate": "reference"}
"""Of mapped tasks; the others are mapped over teachers."""


class Memory(dict[str, Any]):
    """What Airflow keeps over the tries of a task."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


def context(task: Any, memory: Memory | None = None, try_number: int = 1) -> dict[str, Any]:
    """What Airflow tells an operator."""
    ti = SimpleNamespace(
        dag_id=task.dag_id, task_id=task.task_id, run_id="weekly", map_index=-1, try_number=try_number, pushed={}
    )
    ti.xcom_push = lambda key, value: ti.pushed.update({key: value})
    ti.xcom_pull = lambda task_ids, key: None
    params = {"revision": None, "overrides": [], "variants": [], "run": "weekly"}
    return {
        "ti": ti,
        "run_id": "weekly",
        "dag": task.dag,
        "params": params,
        "task_state_store": Memory() if memory is None else memory,
    }


def dag(recipe: str = "route") -> Any:
    """The recipe's DAG as the environment has it run."""
    sys.modules.pop("dags.distill", None)
    return vars(importlib.import_module("dags.distill"))[f"distill__{recipe}"]


def operator(task: Any) -> Any:
    """The task's operator with its run, and an item if it is mapped."""
    if task.is_mapped:
        task = task.unmap({"item": ITEMS.get(task.task_id, "minilm_l6")})
    if hasattr(task, "run_uri"):
        task.run_uri = RUN_URI
    return task


def manifest(task: Any, memory: Memory | None = None) -> dict[str, Any]:
    """The pod of an operator as Kubernetes reads it, without Airflow's version and the random end of its name."""
    from kubernetes.client import ApiClient

    made = task.build_pod_request_obj(context(task, memory), dry_run=True)
    pod: dict[str, Any] = ApiClient().sanitize_for_serialization(made)
    pod["metadata"]["name"] = pod["metadata"]["name"].rpartition("-")[0]
    del pod["metadata"]["labels"]["airflow_version"]
    return dict(_without_empty(pod))


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_empty(each) for key, each in value.items()}
        return {key: each for key, each in kept.items() if each not in ({}, [])}
    return [_without_empty(each) for each in value] if isinstance(value, list) else value


def manifests(recipe: str = "route") -> dict[str, dict[str, Any]]:
    """Task → pod."""
    return {task.task_id: manifest(operator(task)) for task in dag(recipe).tasks}


def write_golden(path: Path) -> None:
    """Write the pods of `route` anew: python -m tests.helpers.pods tests/dags/pods.yaml"""
    os.environ.update(IMAGES)
    path.write_text(yaml.safe_dump(manifests(), default_flow_style=None, width=120), encoding="utf-8")


if __name__ == "__main__":
    write_golden(Path(sys.argv[1]))
