"""The runner `kubernetes`: each task is one pod of the component image.

The operator waits in Airflow's triggerer, so that a long training holds no worker slot. docker/kubernetes/ defines the
rights and settings of pods; a pod gets secrets from there and never from Airflow.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from kubernetes.client import ApiException
from kubernetes.client import models as k8s

from dags.failures import ProcessFailed, TryAgain
from dags.profiles import Profile, cluster
from dags.runners.memory import failure_of_try, profile_of_try
from dags.runners.tasks import ResolveTask, RunTask, StageTask, TrackTask

GRACE_SECONDS = 120
"""Time for the checkpoint after SIGTERM."""

LOG_SECONDS = 300
"""Interval at which the log of a running pod is copied to Airflow; each copy costs the start of a task's process."""

USER = 10001
"""The user in docker/component.Dockerfile."""

_ANSWER = "/dev/termination-log"
"""Kubernetes returns this file's content, up to 4 KiB, with the pod's status, so no second container is needed."""

_NAME_CHARACTERS = 50
_DISRUPTED = ("evicted", "preempting", "nodelost", "nodeshutdown", "shutdown", "terminated", "unexpectedadmissionerror")


class PodOperator(KubernetesPodOperator):  # type: ignore[misc]  # Airflow is not followed: its imports are heavy
    """Runs the module in a pod.

    :param profile: the name of its profile in dags/profiles.yaml
    """

    def __init__(self, *, profile: str, **kwargs: Any) -> None:
        names = cluster()
        super().__init__(
            namespace=names["namespace"],
            service_account_name=names["service_account"],
            automount_service_account_token=False,
            priority_class_name=names["priority_class"],
            labels={"app.kubernetes.io/part-of": "kd-pipelines", "kueue.x-k8s.io/queue-name": names["queue"]},
            env_from=[
                k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name=names["settings"])),
                k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name=names["credentials"])),
            ],
            security_context=k8s.V1PodSecurityContext(
                run_as_non_root=True,
                run_as_user=USER,
                run_as_group=USER,
                fs_group=USER,
                seccomp_profile=k8s.V1SeccompProfile(type="RuntimeDefault"),
            ),
            container_security_context=k8s.V1SecurityContext(
                allow_privilege_escalation=False,
                read_only_root_filesystem=True,
                capabilities=k8s.V1Capabilities(drop=["ALL"]),
            ),
            image_pull_policy="IfNotPresent",
            do_xcom_push=False,
            deferrable=True,
            logging_interval=LOG_SECONDS,
            log_events_on_failure=True,
            termination_grace_period=GRACE_SECONDS,
            on_finish_action="delete_pod",
            **kwargs,
        )
        self.profile = profile

    def build_pod_request_obj(self, context: Context, *, dry_run: bool = False) -> k8s.V1Pod:
        """The pod of this try."""
        words = self.words(context)
        used = profile_of_try(self.profile, context)
        self.name = _pod_name(self.task_id, words)
        self.arguments = ["python", "-m", self.module, *words, *(["--answer", _ANSWER] if self.answers else [])]
        self._apply(used)
        return super().build_pod_request_obj(context, dry_run=dry_run)

    def execute(self, context: Context) -> Any:
        """Start the pod and defer, or wait if there is no triggerer."""
        with self._failures(context):
            super().execute(context)
            return self._done(context, self.remote_pod)

    def trigger_reentry(self, context: Context, event: dict[str, Any]) -> Any:
        """Resume after the triggerer's event; returns the result. Raises the failure class of the pod's status."""
        with self._failures(context):
            super().trigger_reentry(context, event)
            return self._done(context, self.pod)

    def _apply(self, used: Profile) -> None:
        self.image = used.image()
        self.env_vars = used.environment()
        self.container_resources = k8s.V1ResourceRequirements(
            requests=_quantities(used.requests), limits=_quantities(used.limits)
        )
        self.node_selector = dict(used.node_selector)
        self.tolerations = [k8s.V1Toleration(**_snake(each)) for each in used.tolerations]
        self.startup_timeout_seconds = used.startup_seconds
        self.schedule_timeout_seconds = used.schedule_seconds
        self.annotations = {"kd-pipelines/profile": used.name}
        disk = used.limits.get("ephemeral-storage")
        self.volumes = [
            k8s.V1Volume(name="shm", empty_dir=k8s.V1EmptyDirVolumeSource(medium="Memory", size_limit=used.shm)),
            *(k8s.V1Volume(name=name, empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=disk)) for name in _FOLDERS),
        ]
        self.volume_mounts = [
            k8s.V1VolumeMount(name="shm", mount_path="/dev/shm"),  # noqa: S108 -- the pod's own
            *(k8s.V1VolumeMount(name=name, mount_path=path) for name, path in _FOLDERS.items()),
        ]

    def _done(self, context: Context, pod: k8s.V1Pod | None) -> Any:
        if not self.answers:
            return self.done(context, {})
        ended = _terminated(pod)
        try:
            answer = json.loads(ended.message if ended is not None else "")
        except (TypeError, ValueError):
            raise TryAgain("the pod ended well, but its answer was lost with it, or is larger than 4 KiB") from None
        self.do_xcom_push = True  # set only now: earlier, the provider would add a second container to the pod
        return self.done(context, answer)

    @contextmanager
    def _failures(self, context: Context) -> Iterator[None]:
        """Turn the provider's exceptions into the failure class of the pod's exit status."""
        try:
            yield
        except (AirflowSkipException, ProcessFailed):
            raise
        except ApiException as error:
            raise TryAgain(f"the cluster does not do its work: {error.status} {error.reason}") from error
        except AirflowException as error:
            pod = self.remote_pod or self.pod
            used = profile_of_try(self.profile, context)
            raise failure_of_try(exit_status(pod), f"{self.module} ({error})", used, context) from error


_FOLDERS = {"work": "/work", "tmp": "/tmp"}  # noqa: S108 -- the pod's own
"""Volume → folder where the image may write."""


def exit_status(pod: k8s.V1Pod | None) -> int:
    """The exit status that a pod's failure stands for.

    A pod that is gone, or was evicted before its container reported a status, counts as 143: the next try resumes. A
    pod that never started counts as 75.
    """
    if pod is None or pod.status is None or _disrupted(pod.status):
        return 143
    ended = _terminated(pod)
    if ended is None:
        return 75 if pod.status.phase == "Pending" else 143
    if ended.reason == "OOMKilled":
        return 137
    return int(ended.exit_code) or 143


def _disrupted(status: k8s.V1PodStatus) -> bool:
    conditions = status.conditions or []
    return (status.reason or "").lower() in _DISRUPTED or any(
        each.type == "DisruptionTarget" and each.status == "True" for each in conditions
    )


def _terminated(pod: k8s.V1Pod | None) -> k8s.V1ContainerStateTerminated | None:
    statuses = pod.status.container_statuses if pod is not None and pod.status is not None else None
    base = next((each for each in statuses or [] if each.name == PodOperator.BASE_CONTAINER_NAME), None)
    return base.state.terminated if base is not None and base.state is not None else None


def _pod_name(task_id: str, words: Sequence[str]) -> str:
    """The pod's name, a DNS label without capitals, `_` and `@`. Airflow adds its own suffix."""
    item = words[-1].partition("@")[2] if words else ""
    return re.sub(r"[^a-z0-9]+", "-", f"kd-{task_id}-{item}".lower())[:_NAME_CHARACTERS].strip("-")


def _quantities(given: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(amount) for name, amount in given.items()}


def _snake(given: Mapping[str, Any]) -> dict[str, Any]:
    """Rename keys for Kubernetes' Python client: `tolerationSeconds` becomes `toleration_seconds`."""
    return {
        re.sub(r"(?<=[a-z])[A-Z]", lambda found: f"_{found[0].lower()}", key): value for key, value in given.items()
    }


class ResolveOperator(ResolveTask, PodOperator):
    """`resolve` in a pod."""

    template_fields: Sequence[str] = KubernetesPodOperator.template_fields


class RunOperator(RunTask, PodOperator):
    """A task on a run in a pod."""

    template_fields: Sequence[str] = (*RunTask.template_fields, *KubernetesPodOperator.template_fields)


class TrackOperator(TrackTask, PodOperator):
    """The end of a run in a pod."""

    template_fields: Sequence[str] = (*TrackTask.template_fields, *KubernetesPodOperator.template_fields)


class StageOperator(StageTask, PodOperator):
    """A stage in a pod."""

    template_fields: Sequence[str] = (*StageTask.template_fields, *KubernetesPodOperator.template_fields)
