"""The DAGs: they parse without anything heavy, and their tasks and edges are those of dvc.yaml."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import PROJECT

pytest.importorskip("airflow")
CLOSING = {"track", "register", "promote"}
QUIET = ("evaluate", "measure")
"""The one edge that is not dvc.yaml's: two stages at once would time each other."""
STAGES: dict[str, Any] = yaml.safe_load((PROJECT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


@pytest.fixture(scope="module")
def dags() -> dict[str, Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(PROJECT / "dags")
    assert not bag.import_errors
    return dict(bag.dags)


def dvc_edges() -> Iterator[tuple[str, str]]:
    """Pairs (stage, stage that reads what it writes), by the paths in dvc.yaml up to the first `${…}`."""

    def paths(stage: str, *keys: str) -> set[str]:
        body = STAGES[stage].get("do", STAGES[stage])
        entries = [e for key in keys for e in body.get(key, [])]
        return {(next(iter(e)) if isinstance(e, dict) else e).split("${")[0].rstrip("/") for e in entries}

    for writer in STAGES:
        for reader in STAGES:
            for out in paths(writer, "outs", "metrics"):
                for dep in paths(reader, "deps"):
                    if writer != reader and (f"{dep}/".startswith(f"{out}/") or f"{out}/".startswith(f"{dep}/")):
                        yield writer, reader


def test_one_dag_for_each_recipe(dags: dict[str, Any]) -> None:
    assert set(dags) == {f"distill__{path.stem}" for path in (PROJECT / "recipes").glob("*.yaml")}


def test_tasks_are_the_stages(dags: dict[str, Any]) -> None:
    for dag in dags.values():
        assert set(dag.task_ids) == set(STAGES) | {"resolve"} | CLOSING


def test_edges_are_those_of_dvc_yaml(dags: dict[str, Any]) -> None:
    dag = dags["distill__route"]
    # `data/checked/` and `scores/` are prefixes of several stages' outs; roles and files tell them apart below.
    expected = {(a, b) for a, b in dvc_edges()}
    direct = {(up, t.task_id) for t in dag.tasks for up in t.upstream_task_ids} - {("resolve", s) for s in STAGES}
    stage_edges = {(a, b) for a, b in direct if a in STAGES and b in STAGES} - {QUIET}
    assert stage_edges <= expected, f"in the DAG only: {sorted(stage_edges - expected)}"
    for writer, reader in expected:
        if (writer, reader) == ("score_pretraining", "finetune") or (writer, reader) == ("score_reference", "pretrain"):
            continue
        upstream = {t.task_id for t in dag.get_task(reader).get_flat_relatives(upstream=True)}
        assert writer in upstream, f"{reader} reads what {writer} writes, but does not wait for it"


def test_nothing_else_of_the_run_is_at_work_while_it_is_measured(dags: dict[str, Any]) -> None:
    dag = dags["distill__route"]
    measure = dag.get_task("measure")
    assert QUIET[0] in measure.upstream_task_ids
    around = {*measure.get_flat_relative_ids(upstream=True), *measure.get_flat_relative_ids(upstream=False)}
    assert set(STAGES) - around == {"measure"}


def test_teacher_stages_are_mapped(dags: dict[str, Any]) -> None:
    for stage in ("teach", "score_pretraining", "score_reference"):
        assert dags["distill__route"].get_task(stage).is_mapped


def test_closing_order(dags: dict[str, Any]) -> None:
    dag = dags["distill__route"]
    assert dag.get_task("promote").upstream_task_ids == {"register"}
    assert dag.get_task("register").upstream_task_ids == {"track", "report"}
    assert dag.get_task("track").trigger_rule == "all_done"
    assert set(STAGES) <= dag.get_task("track").upstream_task_ids


def test_dag_files_import_nothing_heavy() -> None:
    heavy = ["torch", "transformers", "mlflow", "dvc", "great_expectations", "kd_ops", "kd_core", "components"]
    code = (
        "import sys, time, airflow.sdk; began = time.perf_counter(); import dags.distill; "
        "print(f'{time.perf_counter() - began:.2f} s to parse'); "
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    print(result.stdout)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("params", "accepted"),
    [
        ({"overrides": ["finetune.alpha=0.5"]}, True),
        ({"overrides": ["no equals sign"]}, False),
        ({"overrides": "finetune.alpha=0.5"}, False),
        ({"variants": ["tkd", "self_attention"]}, True),
        ({"variants": ["../elsewhere"]}, False),
        ({"revision": "1.43.117"}, True),
        ({"run": "weekly-2026-11-23"}, True),
        ({"run": "../elsewhere"}, False),
    ],
)
def test_params_have_a_schema(dags: dict[str, Any], params: dict[str, Any], accepted: bool) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    declared = dags["distill__route"].params
    merged = {key: params.get(key, declared[key]) for key in declared}
    try:
        for key, value in merged.items():
            declared.get_param(key).resolve(value=value)
    except (ParamValidationError, ValueError):
        assert not accepted
    else:
        assert accepted


@pytest.mark.parametrize(
    ("status", "retried"), [(1, False), (64, False), (65, False), (70, False), (75, True), (137, True), (143, True)]
)
def test_exit_statuses_decide_retries(status: int, retried: bool) -> None:
    from airflow.sdk import RetryAction

    from dags.failures import RETRY_POLICY, failure

    decision = RETRY_POLICY.evaluate(failure(status, "python -m kd_ops.bridge"), try_number=1, max_tries=3)
    assert decision.action is (RetryAction.RETRY if retried else RetryAction.FAIL)


def test_a_killed_process_is_tried_once_more() -> None:
    """It may have been evicted and resumes; where it needs more memory than there is, a third try is in vain."""
    from airflow.sdk import RetryAction

    from dags.failures import RETRY_POLICY, failure

    actions = [RETRY_POLICY.evaluate(failure(137, ""), try_number=number, max_tries=3).action for number in (1, 2, 3)]
    assert actions == [RetryAction.RETRY, RetryAction.FAIL, RetryAction.FAIL]


def test_a_process_status_becomes_its_exception(capsys: pytest.CaptureFixture[str]) -> None:
    from dags.failures import InvalidData, Terminated
    from dags.runners.local import ProcessOperator

    operator = ProcessOperator(task_id="x", module="tests.dags.ends")
    operator.run_process(["0"])
    assert "a line for the log" in capsys.readouterr().out
    with pytest.raises(InvalidData, match="65"):
        operator.run_process(["65"])
    with pytest.raises(Terminated):
        operator.run_process(["-15"])


def test_retries_outlast_the_signs_of_life_of_a_killed_try() -> None:
    """The first retry may come at once and be refused; the last one must find the killed try taken for dead."""
    from dags.failures import RETRIES, RETRY_POLICY, failure
    from kd_ops.bridge.state import BEAT_LIMIT_S

    delay = RETRY_POLICY.evaluate(failure(75, ""), try_number=1, max_tries=RETRIES).retry_delay
    assert delay is not None
    assert delay.total_seconds() * (RETRIES - 1) > BEAT_LIMIT_S


WORKER = """\
import sys
from dags.runners.local import ProcessOperator
ProcessOperator(task_id="x", module="tests.dags.lingers").run_process([sys.argv[1]])
"""


def test_a_killed_worker_takes_its_process_along(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    with subprocess.Popen([sys.executable, "-c", WORKER, str(tmp_path)], env=environment) as worker:
        while not pid.is_file() or not pid.read_text():
            assert worker.poll() is None
            time.sleep(0.05)
        worker.kill()
    deadline = time.monotonic() + 20
    while not (tmp_path / "checkpoint").exists():
        assert time.monotonic() < deadline, "an orphan goes on working"
        time.sleep(0.05)


def test_tasks_run_in_the_python_that_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that Airflow's own environment needs nothing of what the stages do."""
    from dags.failures import WrongParams
    from dags.runners.local import ProcessOperator

    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$PWD" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("KD_PYTHON", str(python))
    operator = ProcessOperator(task_id="x", module="kd_ops.bridge")
    operator.run_process(["--run", "a run"])
    assert f"{PROJECT} -m kd_ops.bridge --run a run" in capsys.readouterr().out
    python.chmod(0o644)
    with pytest.raises(WrongParams, match="KD_PYTHON"):
        operator.run_process([])


class TaskInstance:
    """What a task of Airflow gives its results to."""

    def __init__(self, try_number: int = 1) -> None:
        self.try_number = try_number
        self.pushed: dict[str, Any] = {}
        self.asked: list[tuple[str, str]] = []

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        self.asked.append((task_ids, key))
        return self.pushed.get(key)


def test_what_a_process_prints_is_no_part_of_resolves_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries warn on both streams when the interpreter ends, after everything else."""
    from dags.runners.local import ResolveOperator

    task = TaskInstance()
    operator = ResolveOperator(task_id="resolve", recipe="route")
    operator.module = "tests.dags.answers"
    params = {"revision": None, "overrides": ["a.b=1"], "variants": [], "run": "weekly"}
    records = operator.execute({"params": params, "run_id": "manual__1", "ti": task})
    assert records == [
        {"teacher": "deep", "pretraining": True, "reference": False},
        {"teacher": "shallow", "pretraining": True, "reference": True},
    ]
    assert task.pushed == {"run_uri": "/runs/weekly", "settled": ["teach@deep"]}


@pytest.mark.parametrize(
    ("settled", "tries", "started"),
    [(["teach@deep"], 1, False), (["teach@deep"], 2, True), (["teach@shallow"], 1, True), (None, 1, True)],
)
def test_a_settled_task_starts_no_process_unless_it_is_repeated(
    monkeypatch: pytest.MonkeyPatch, settled: list[str] | None, tries: int, started: bool
) -> None:
    """Whoever clears a task wants its process: the store may have lost what it had."""
    from dags.runners.local import StageOperator

    task, calls = TaskInstance(tries), list[list[str]]()
    task.pushed["settled"] = settled
    monkeypatch.setattr(StageOperator, "run_process", lambda _, words: calls.append(list(words)))
    operator = StageOperator(task_id="teach", stage="teach", item="deep", run_uri="/runs/weekly")
    operator.execute({"ti": task})
    assert calls == ([["--run", "/runs/weekly", "teach@deep"]] if started else [])
    assert task.asked == ([("resolve", "settled")] if tries == 1 else [])
