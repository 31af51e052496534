"""The whole pipeline on a tiny recipe: without Airflow, then through it, then through its real scheduler."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scheduler import standalone
from tests.helpers.tiny_project import environment, kd, make

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STAGES = {
    *(f"{stage}@{role}" for stage in ("ingest", "validate") for role in ("pretraining", "reference")),
    *(f"{stage}@{name}" for stage in ("teach", "score_pretraining") for name in ("deep", "shallow")),
    *("score_reference@deep", "pretrain", "update", "finetune", "self_distill", "baseline"),
    *("export", "evaluate", "measure", "report"),
}


def show(project: Path, *run: str) -> dict[str, Any]:
    result = kd(project, "show", *run, "--json")
    assert result.returncode == 0, result.stderr
    content: dict[str, Any] = json.loads(result.stdout)
    return content


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after its first run."""
    folder = make(tmp_path_factory.mktemp("tiny"))
    result = kd(folder, "repro", "--recipe", "tiny")
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_the_first_run_computes_everything_and_registers_a_champion(project: Path) -> None:
    shown = show(project)
    assert set(shown) == {"run", "stages", "metrics", "model", "report"}
    assert set(shown["stages"]) == STAGES
    assert {s["status"] for s in shown["stages"].values()} == {"done"}
    assert not any(s["cached"] for s in shown["stages"].values())
    assert shown["model"] == {"name": "kd-tiny", "version": "1", "aliases": ["champion"]}
    report = Path(shown["report"]).read_text(encoding="utf-8")
    assert "<html" in report
    assert shown["metrics"]["evaluation"]["models"]["trunk"]["accuracy"] > 0.5


def test_airflow_shares_the_cache(project: Path) -> None:
    result = kd(project, "run", "--recipe", "tiny")
    assert result.returncode == 0, result.stdout + result.stderr
    shown = show(project)
    assert set(shown["stages"]) == STAGES
    computed = [name for name, stage in shown["stages"].items() if not stage["cached"]]
    assert not computed, f"computed again: {computed}"
    assert shown["model"]["version"] == "1"
    assert "nothing to compute" in result.stdout.lower()


def test_the_real_scheduler_runs_the_dag(project: Path, tmp_path: Path) -> None:
    """Mapped tasks, retries and trigger rules as a cluster has them; the stages are found in the cache."""
    with standalone(project, tmp_path / "airflow") as airflow:
        airflow.wait("the DAG", lambda: airflow.ask("dags/distill__tiny"), 120)
        body = {"dag_run_id": "weekly", "logical_date": None, "conf": {"run": "by-scheduler"}}
        airflow.ask("dags/distill__tiny/dagRuns", body, "POST")
        ended = ("success", "failed")
        state = airflow.wait(
            "the DAG run's end",
            lambda: (run := airflow.ask("dags/distill__tiny/dagRuns/weekly")["state"]) in ended and run,
            600,
        )
        tasks = airflow.ask("dags/distill__tiny/dagRuns/weekly/taskInstances")["task_instances"]
    assert state == "success", [(t["task_id"], t["map_index"], t["state"]) for t in tasks]
    names = {t["rendered_map_index"] for t in tasks if t["task_id"] == "teach"}
    assert names == {"deep", "shallow"}
    skipped = {(t["task_id"], t["rendered_map_index"]) for t in tasks if t["state"] == "skipped"}
    assert {task for task, _ in skipped} == {"score_reference"}
    assert set(show(project, "by-scheduler")["stages"]) == STAGES


def test_plan_says_which_parameter_changed(project: Path) -> None:
    result = kd(project, "plan", "--recipe", "tiny", "-S", "self_distill.width=8")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert any("self_distill" in line and "MISS" in line for line in lines)
    assert any("finetune" in line and "HIT" in line for line in lines)
    assert "width" in result.stdout


def test_the_registered_model_predicts(project: Path) -> None:
    result = kd(project, "predict", "--model", "models:/kd-tiny@champion", "--json", "the small apple gets a")
    assert result.returncode == 0, result.stderr
    row = json.loads(result.stdout.strip().splitlines()[-1])
    row = row[0] if isinstance(row, list) else row
    assert row["label"] in {"red", "green", "blue"}
    assert row["exit_layer"] in {1, 2}


@pytest.mark.parametrize(
    ("override", "status", "words"),
    [
        ("finetune.alfa=0.5", 64, ["finetune.alfa", "alpha"]),
        ("data.reference.source.path=/no/such.csv", 65, ["/no/such.csv"]),
        ("data.reference.source.columns.text=nothing", 65, ["nothing", "sentence"]),
    ],
)
def test_wrong_input_ends_with_its_status(project: Path, override: str, status: int, words: list[str]) -> None:
    result = kd(project, "repro", "--recipe", "tiny", "-S", override)
    assert result.returncode == status, result.stdout + result.stderr
    for word in words:
        assert word in result.stdout + result.stderr


ALONE = ["ingest@pretraining", "ingest@reference", "validate@pretraining", "pretrain"]


def test_without_teachers_pretrain_finds_an_empty_folder_of_scores(project: Path) -> None:
    """A variant without teachers: an empty matrix upstream of a stage that reads a folder of it."""
    code = (
        "import sys; from kd_ops.resolving.resolve import resolve; from kd_ops.launching.repro import repro; "
        f"sys.exit(repro(resolve('tiny', variants=['alone']), {ALONE}))"
    )
    words, runs = [sys.executable, "-c", code], project / ".kd" / "runs"
    before = set(runs.iterdir())
    done = subprocess.run(words, cwd=project, env=environment(project), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (run,) = set(runs.iterdir()) - before
    assert {path.stem for path in (run / "locks").iterdir()} == set(ALONE)
    assert not json.loads((run / "stages" / "pretrain.json").read_text())["cached"]
