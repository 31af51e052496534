"""The runner `kubernetes`: the pods that tasks become, and what the end of a pod means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helpers.pods import IMAGES, Memory, context, dag, manifest, manifests, operator

pytest.importorskip("airflow")
GOLDEN = Path(__file__).with_name("pods.yaml")
GPU_STAGES = {"teach", "score_pretraining", "score_reference", "pretrain", "finetune", "self_distill"}


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in IMAGES.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def pods() -> dict[str, dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in IMAGES.items():
            patch.setenv(name, value)
        return manifests()


def test_every_pod_is_what_kubernetes_takes(pods: dict[str, dict[str, Any]]) -> None:
    validator = pytest.importorskip("kubernetes_validate")
    for pod in pods.values():
        validator.validate(pod, "1.32", strict=True)


def test_pods_are_those_of_the_golden_file(pods: dict[str, dict[str, Any]]) -> None:
    """After a wanted change: python -m tests.helpers.pods tests/dags/pods.yaml"""
    assert pods == yaml.safe_load(GOLDEN.read_text(encoding="utf-8"))


def test_a_gpu_pod_asks_for_a_gpu_and_a_cpu_pod_does_not(pods: dict[str, dict[str, Any]]) -> None:
    def gpus(pod: dict[str, Any]) -> Any:
        return pod["spec"]["containers"][0]["resources"]["limits"].get("nvidia.com/gpu")

    assert {task for task, pod in pods.items() if gpus(pod)} == GPU_STAGES
    for task, pod in pods.items():
        on_gpu = task in GPU_STAGES
        assert ("tolerations" in pod["spec"]) == on_gpu
        assert pod["spec"]["containers"][0]["image"] == IMAGES["KD_IMAGE_GPU" if on_gpu else "KD_IMAGE"]


def test_shared_memory_counts_in_the_limit(pods: dict[str, dict[str, Any]]) -> None:
    for pod in pods.values():
        shm = next(volume for volume in pod["spec"]["volumes"] if volume["name"] == "shm")
        assert shm["emptyDir"]["medium"] == "Memory"
        assert "memory" in pod["spec"]["containers"][0]["resources"]["limits"]


def test_a_pod_may_do_little_and_holds_no_secret(
    pods: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "never-in-a-pod")
    assert "never-in-a-pod" not in str(manifests())
    for pod in pods.values():
        spec, container = pod["spec"], pod["spec"]["containers"][0]
        assert len(spec["containers"]) == 1, "no second container for XCom"
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] >= 10000
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert {"secretRef": {"name": "kd-credentials"}} in container["envFrom"]


def test_an_image_by_tag_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.failures import WrongParams

    monkeypatch.setenv("KD_IMAGE", "registry.example/kd-component:1.0")
    with pytest.raises(WrongParams, match="by digest"):
        manifest(operator(dag().get_task("report")))


def pod(
    phase: str = "Failed", reason: str | None = None, terminated: dict[str, Any] | None = None, disrupted: bool = False
) -> Any:
    from kubernetes.client import models as k8s

    state = k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(**terminated) if terminated else None)
    status = k8s.V1ContainerStatus(name="base", image="i", image_id="i", ready=False, restart_count=0, state=state)
    conditions = [k8s.V1PodCondition(type="DisruptionTarget", status="True")] if disrupted else []
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="p", namespace="n"),
        status=k8s.V1PodStatus(phase=phase, reason=reason, container_statuses=[status], conditions=conditions),
    )


KILLED = {"exit_code": 137, "reason": "Error"}


@pytest.mark.parametrize(
    ("ended", "status"),
    [
        ({"terminated": {"exit_code": 65, "reason": "Error"}}, 65),
        ({"terminated": {"exit_code": 143, "reason": "Error"}}, 143),
        ({"terminated": {"exit_code": 1, "reason": "OOMKilled"}}, 137),
        ({"terminated": KILLED}, 137),
        ({"terminated": KILLED, "disrupted": True}, 143),
        ({"terminated": KILLED, "reason": "Evicted"}, 143),
        ({"reason": "Evicted"}, 143),
        ({}, 143),
        ({"phase": "Pending"}, 75),
    ],
)
def test_the_end_of_a_pod_is_an_exit_status(ended: dict[str, Any], status: int) -> None:
    from dags.runners.kubernetes import exit_status

    assert exit_status(pod(**ended)) == status


def test_a_pod_that_is_gone_was_evicted() -> None:
    from dags.runners.kubernetes import exit_status

    assert exit_status(None) == 143


def failed(task: Any, ended: Any, memory: Memory, monkeypatch: pytest.MonkeyPatch) -> Exception:
    """What the task raises where its pod ends like this, as the provider tells of it."""
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
    from airflow.sdk.exceptions import AirflowException

    def trigger_reentry(self: Any, context: Any, event: Any) -> None:
        self.pod = ended
        raise AirflowException("Pod p returned a failure.")

    monkeypatch.setattr(KubernetesPodOperator, "trigger_reentry", trigger_reentry)
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- the caller looks at it
        task.trigger_reentry(context(task, memory), {"status": "failed"})
    return caught.value


def test_out_of_memory_is_tried_once_more_with_the_next_larger_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import RetryAction

    from dags.failures import RETRY_POLICY, MoreMemory, OutOfMemory

    task, memory = operator(dag().get_task("pretrain")), Memory()
    killed = pod(terminated={"exit_code": 137, "reason": "OOMKilled"})
    first = failed(task, killed, memory, monkeypatch)
    assert type(first) is MoreMemory
    assert "gpu-large" in str(first)
    assert RETRY_POLICY.evaluate(first, 2, 3).action is RetryAction.RETRY, "also after an eviction"
    larger = manifest(task, memory)
    assert larger["metadata"]["annotations"] == {"kd-pipelines/profile": "gpu-large"}
    assert larger["spec"]["containers"][0]["resources"]["limits"]["memory"] == "64Gi"
    second = failed(task, killed, memory, monkeypatch)
    assert type(second) is OutOfMemory
    assert RETRY_POLICY.evaluate(second, 2, 3).action is RetryAction.FAIL


def test_an_evicted_pod_is_tried_again_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import RetryAction

    from dags.failures import RETRY_POLICY, Terminated

    task, memory = operator(dag().get_task("pretrain")), Memory()
    error = failed(task, pod(reason="Evicted"), memory, monkeypatch)
    assert type(error) is Terminated
    assert not memory
    assert RETRY_POLICY.evaluate(error, 2, 3).action is RetryAction.RETRY


def test_resolves_answer_is_the_pods_message(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator

    from dags.failures import TryAgain

    message = (
        '{"run_uri": "s3://kd/runs/weekly", "teachers": ["a"], "pretraining_teachers": [], "reference_teachers": ["a"]}'
    )
    task = operator(dag().get_task("resolve"))
    told = context(task)
    for content in (message, message[:40]):
        ended = pod("Succeeded", terminated={"exit_code": 0, "message": content})
        monkeypatch.setattr(
            KubernetesPodOperator,
            "trigger_reentry",
            lambda self, context, event, ended=ended: setattr(self, "pod", ended),
        )
        if content == message:
            assert task.trigger_reentry(told, {}) == [{"teacher": "a", "pretraining": False, "reference": True}]
            assert told["ti"].pushed == {"run_uri": "s3://kd/runs/weekly", "settled": []}
        else:
            with pytest.raises(TryAgain, match="answer was lost"):
                task.trigger_reentry(told, {})


def test_a_settled_task_starts_no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    from dags.runners.kubernetes import PodOperator

    started: list[str] = []
    monkeypatch.setattr(PodOperator, "execute", lambda self, context: started.append(self.task_id))
    for name, settled_by in (("report", "resolve"), ("promote", "track")):
        task = operator(dag().get_task(name))
        told = context(task)
        told["ti"].xcom_pull = lambda task_ids, key, name=name, by=settled_by: [name] if task_ids == by else []
        task.execute(told)
        assert started == []
        told["ti"].try_number = 2
        task.execute(told)
        assert started.pop() == name


def test_without_a_run_a_task_is_skipped() -> None:
    from airflow.sdk.exceptions import AirflowSkipException

    task = operator(dag().get_task("report"))
    task.run_uri = ""
    with pytest.raises(AirflowSkipException):
        task.execute(context(task))


def test_the_dag_is_stored_with_its_pools() -> None:
    """What the scheduler reads of it; operators of another module are needed by workers only."""
    serialization = pytest.importorskip("airflow.serialization.serialized_objects").DagSerialization
    made = dag()
    back = serialization.from_dict(serialization.to_dict(made))
    assert {task.task_id for task in back.tasks} == {task.task_id for task in made.tasks}
    assert isinstance(back.get_task("teach").partial_kwargs, dict)


def test_a_local_runner_imports_neither_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """`kd run` starts no slower for runners that it does not use."""
    import subprocess
    import sys

    from tests.conftest import PROJECT

    heavy = ("kubernetes", "docker", "dags.runners.docker", "dags.runners.kubernetes")
    code = f"import sys, dags.distill; print([m for m in {heavy} if m in sys.modules])"
    monkeypatch.delenv("KD_RUNNER")
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_names_in_the_profiles_are_those_of_the_cluster() -> None:
    """docker/kubernetes/ makes the objects that pods name."""
    from dags.profiles import cluster as names
    from tests.conftest import PROJECT

    files = (PROJECT / "docker/kubernetes").rglob("*.yaml")
    documents = [each for path in files for each in yaml.safe_load_all(path.read_text(encoding="utf-8"))]
    objects = {(each["kind"], each["metadata"]["name"]) for each in documents if "metadata" in each}
    known = names()
    assert ("Namespace", known["namespace"]) in objects
    assert ("ServiceAccount", known["service_account"]) in objects
    assert ("PriorityClass", known["priority_class"]) in objects
    assert ("LocalQueue", known["queue"]) in objects
    assert ("ConfigMap", known["settings"]) in objects
