"""Runners of tasks: a process beside the Airflow worker, a Docker container or a Kubernetes pod.

A runner is a module of this package with the operators ResolveOperator, RunOperator, TrackOperator and StageOperator.
It is imported only when it is chosen, since its own imports take seconds.
"""

from __future__ import annotations

import importlib
from typing import Any

from dags.failures import RETRIES, RETRY_POLICY
from dags.profiles import placement

TASK_DEFAULTS: dict[str, Any] = {
    "owner": "kd-pipelines",
    "retries": RETRIES,
    "retry_policy": RETRY_POLICY,
}


def operator(kind: str, task_id: str) -> tuple[Any, dict[str, Any]]:
    """The operator class of a task and its further arguments; a local process has none.

    :param kind: ResolveOperator, RunOperator, TrackOperator or StageOperator
    :raises WrongParams: for a runner or profile that does not exist
    """
    place = placement(task_id)
    module = importlib.import_module(f"dags.runners.{place.runner}")
    own = {"task_id": task_id}
    if place.runner != "local":
        own |= {"profile": place.profile.name, "pool": place.profile.pool}
    return getattr(module, kind), own
