"""What MLflow holds of a run: complete, closed, the same when logged again, and free of secrets."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kd_ops.base import redaction
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import connect
from kd_ops.runs.results import read_result
from kd_ops.runs.runs import Run, StageRecord
from kd_ops.tracking import tracked_values
from kd_ops.tracking.track import track
from tests.conftest import PROJECT
from tests.helpers.fabricated import done, finished_run, new_run

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


def children(settings: Settings, parent: str) -> list[Any]:
    client = connect(settings)
    folder = client.get_run(parent).info.experiment_id
    return list(client.search_runs([folder], filter_string=f"tags.`mlflow.parentRunId` = '{parent}'"))


def test_a_finished_run_is_logged_whole(settings: Settings) -> None:
    run = finished_run(settings, "whole")
    parent = track(run, settings)
    client = connect(settings)
    logged = client.get_run(parent)
    assert logged.info.status == "FINISHED"
    assert read_result(run)["mlflow_run"] == parent
    assert logged.data.tags["kd.git_sha"] == "0123abcd"
    assert logged.data.tags["kd.data_revision"] == "1.43.117"
    assert logged.data.params["finetune.optimisation.learning_rate"] == "0.0007"
    assert logged.data.metrics["models/adaptive/accuracy"] == pytest.approx(0.873, abs=1e-3)
    assert logged.data.metrics["models/teacher/minilm_l6/accuracy"] == 0.9
    assert logged.data.metrics["models/adaptive_at_0.1/accuracy"] == 0.8
    assert logged.data.metrics["measure/adaptive/batch_32/speedup"] == 9.5
    assert logged.data.metrics["measure/adaptive_at_0.3/batch_32/speedup"] == 9.1, "a point of the timed curve"
    by_stage = {child.data.tags["kd.stage"]: child for child in children(settings, parent)}
    assert by_stage.keys() == run.stages().keys()
    curve = client.get_metric_history(by_stage["finetune"].info.run_id, "loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0)]
    names = {
        file.path for folder in ("", "report", "evaluation/details") for file in client.list_artifacts(parent, folder)
    }
    assert {"params.yaml", "report/report.html", "report/model_card.md", "evaluation/details/examples.parquet"} <= names


def test_a_cached_run_has_as_many_children_and_says_so(settings: Settings) -> None:
    computed = children(settings, track(finished_run(settings, "computed"), settings))
    cached = children(settings, track(finished_run(settings, "cached", cached=True), settings))
    assert Counter(c.data.tags["kd.stage"] for c in cached) == Counter(c.data.tags["kd.stage"] for c in computed)
    assert {child.data.tags["cached"] for child in cached} == {"true"}
    assert {child.data.tags["cached"] for child in computed} == {"false"}
    assert {c.data.tags["kd.stage"]: c.data.metrics.keys() for c in cached} == {
        c.data.tags["kd.stage"]: c.data.metrics.keys() for c in computed
    }


def test_logging_again_adds_nothing(settings: Settings) -> None:
    run = finished_run(settings, "again")
    first = track(run, settings)
    client = connect(settings)

    def state() -> tuple[Any, ...]:
        found = children(settings, first)
        curves = [client.get_metric_history(c.info.run_id, key) for c in found for key in sorted(c.data.metrics)]
        return len(found), len(client.get_metric_history(first, "models/adaptive/accuracy")), [len(c) for c in curves]

    before = state()
    assert track(run, settings) == first
    assert state() == before


def test_a_failed_stage_fails_the_parent_and_keeps_each_try(settings: Settings) -> None:
    run = new_run(settings, "failed")
    run.write_stage(StageRecord("teach@minilm_l6", "failed", exit_code=65, tries=2, error="error: labels are swapped"))
    parent = track(run, settings)
    found = children(settings, parent)
    assert connect(settings).get_run(parent).info.status == "FAILED"
    assert [child.info.status for child in found] == ["FAILED", "FAILED"]
    assert sum("labels are swapped" in child.data.tags.get("kd.error", "") for child in found) == 1


@pytest.mark.parametrize(
    ("record", "interrupted"),
    [
        (StageRecord("pretrain", "running", tries=1), False),
        (StageRecord("pretrain", "failed", exit_code=143, tries=1), False),
        (StageRecord("pretrain", "done", exit_code=0, tries=1), True),
    ],
)
def test_a_stopped_run_is_killed_not_running(settings: Settings, record: StageRecord, interrupted: bool) -> None:
    run = new_run(settings, f"stopped-{record.status}-{record.exit_code}")
    run.write_stage(record)
    parent = track(run, settings, interrupted)
    assert connect(settings).get_run(parent).info.status == "KILLED"
    assert {child.info.status for child in children(settings, parent)} <= {"KILLED", "FINISHED"}


def test_a_parent_left_running_by_a_kill_is_found_and_closed(settings: Settings) -> None:
    run = finished_run(settings, "left")
    parent = track(run, settings)
    client = connect(settings)
    client.update_run(parent, status="RUNNING")
    client.update_run(children(settings, parent)[0].info.run_id, status="RUNNING")
    assert track(run, settings) == parent
    assert client.get_run(parent).info.status == "FINISHED"
    assert {child.info.status for child in children(settings, parent)} == {"FINISHED"}


def test_an_error_while_logging_leaves_nothing_running(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(settings, "broken")

    def stop(*_: object) -> None:
        raise SystemExit(143)

    monkeypatch.setattr("kd_ops.tracking.track.log_children", stop)
    with pytest.raises(SystemExit):
        track(run, settings)
    client = connect(settings)
    found = client.search_runs(["1"], filter_string="tags.`kd.run` = 'broken'")
    assert [logged.info.status for logged in found] == ["KILLED"]


def test_a_resumed_run_completes_the_same_parent(settings: Settings) -> None:
    run = new_run(settings, "resumed")
    run.write_stage(StageRecord("report", "failed", exit_code=75, tries=1))
    parent = track(run, settings)
    done(run, settings, "report", {"report": {"report.html": b"<html>"}}, tries=2)
    assert track(run, settings) == parent
    assert connect(settings).get_run(parent).info.status == "FINISHED"
    states = {child.data.tags["kd.try"]: child.info.status for child in children(settings, parent)}
    assert states == {"1": "FAILED", "2": "FINISHED"}


def test_no_secret_of_the_environment_is_logged(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    run = new_run(settings, "secret", (f"teachers.minilm_l6.weights=s3://user:pass1234@host/{SECRET}",))
    run.write_stage(StageRecord("teach@minilm_l6", "failed", exit_code=1, tries=1, error=f"denied for {SECRET}"))
    track(run, settings)
    database = sqlite3.connect(settings.home / "mlflow.db")
    dump = "\n".join(database.iterdump())
    database.close()
    files = "".join(path.read_text(errors="replace") for path in Path(settings.home / "mlartifacts").rglob("*.yaml"))
    assert "denied for ***" in dump
    for text in (dump, files):
        assert SECRET not in text
        assert "pass1234" not in text


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:p@ss/word@host/db", "postgresql://***@host/db"),
        ("https://to@ken@host/a", "https://***@host/a"),
        ("s3://bucket/a@b", "s3://bucket/a@b"),
        ('{"a": "https://u:p@h", "b": "x@y"}', '{"a": "https://***@h", "b": "x@y"}'),
    ],
)
def test_credentials_in_urls_end_at_the_last_at_sign(url: str, said: str) -> None:
    assert redaction.redact(url) == said


def test_values_fit_the_server() -> None:
    logged = tracked_values.params({"a": {"labels": ["x" * 60] * 20}, "b": None, "c": True})
    assert len(logged["a.labels"]) == tracked_values.PARAM_CHARACTERS
    assert logged["a.labels"].endswith("characters)")
    assert logged["b"] == "null"
    assert tracked_values.metrics({"exits": {"1": 0.5}, "no": None, "yes": True}) == {"exits/1": 0.5}


def test_run_id_of_the_environment_is_not_written_into(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    other = track(finished_run(settings, "other"), settings)
    monkeypatch.setenv("MLFLOW_RUN_ID", other)
    assert track(finished_run(settings, "mine"), settings) != other
    assert isinstance(Run.named("mine", settings).stages(), dict)


FIRST = """\
from kd_ops.registry.registry import connect
from kd_ops.base.settings import Settings
connect(Settings()).search_experiments()
"""


def test_of_several_that_open_a_new_database_at_once_none_fails(tmp_path: Path) -> None:
    environment = os.environ | {"KD_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-c", FIRST]
    started = [subprocess.Popen(command, cwd=PROJECT, env=environment, stderr=subprocess.PIPE) for _ in range(3)]
    said = [process.communicate()[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
