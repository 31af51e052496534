"""Chooses the profile of a task's try: the next larger one, once, after a try that ran out of memory.

Runners with containers use it. Airflow keeps the note between the tries of a task.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Context

from dags.failures import MoreMemory, OutOfMemory, ProcessFailed, failure
from dags.profiles import Profile, profile

_KEY = "kd_profile"


def profile_of_try(name: str, context: Context) -> Profile:
    """The profile of this try, given the task's own."""
    noted = _noted(context)
    return profile(str(noted) if noted else name)


def failure_of_try(status: int, command: str, used: Profile, context: Context) -> ProcessFailed:
    """The exception for a container that ended with `status`; after the first lack of memory the next try is larger."""
    error = failure(status, command)
    if not isinstance(error, OutOfMemory) or used.larger is None or _noted(context):
        return error
    store: Any = context.get("task_state_store")
    if store is None:
        return error
    store.set(_KEY, used.larger)
    return MoreMemory(f"{error}; it is tried once more with profile {used.larger} instead of {used.name}")


def _noted(context: Context) -> Any:
    store: Any = context.get("task_state_store")
    return None if store is None else store.get(_KEY)
