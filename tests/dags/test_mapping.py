"""What Airflow maps the teacher stages over, also where a variant leaves some of them without any teacher."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PROJECT

pytest.importorskip("airflow")

ANSWER = {
    "run": "r",
    "run_uri": "runs/r",
    "teachers": ["deep", "shallow"],
    "pretraining_teachers": [],
    "reference_teachers": ["deep"],
    "settled": ["ingest@reference", "score_reference@deep"],
}


@pytest.fixture(scope="module")
def database() -> None:
    from airflow.utils.db import initdb

    initdb()


@pytest.mark.slow
def test_a_stage_mapped_over_no_teacher_is_skipped_and_the_rest_runs(
    database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kd run --variant mkd`: nothing is scored for pre-training, and everything after it still runs."""
    from airflow.dag_processing.dagbag import DagBag

    from dags.runners import local

    started: list[list[str]] = []

    def process(operator: Any, words: Sequence[str]) -> None:
        started.append([operator.module, *words])
        answers = {"kd_ops.resolving.resolve": ANSWER, "kd_ops.promotion.close": {"settled": ["register"]}}
        if operator.module in answers:
            Path(words[words.index("--answer") + 1]).write_text(json.dumps(answers[operator.module]))

    monkeypatch.setattr(local.ProcessOperator, "run_process", process)
    dag = DagBag(PROJECT / "dags").dags["distill__route"]
    for task in dag.tasks:
        task.retries = 0  # a failure ends the run at once instead of after the pauses
    run = dag.test(run_conf={"variants": ["mkd"], "run": "r"})
    assert run.state == "success"
    resolve, *others = started
    assert resolve[:-2] == ["kd_ops.resolving.resolve", "--recipe", "route", "--run", "r", "--variant", "mkd"]
    stages = [words[-1] for words in others if words[0] == "kd_ops.bridge"]
    assert not [stage for stage in stages if stage.startswith("score_pretraining")]
    assert {"ingest@pretraining", "teach@deep", "teach@shallow", "pretrain", "finetune", "report"} <= set(stages)
    assert not {"ingest@reference", "score_reference@deep"} & set(stages), "what is settled needs no process"
    assert [words[0] for words in others[-2:]] == ["kd_ops.promotion.close", "kd_ops.promotion.promote"]
    assert others[-1] == ["kd_ops.promotion.promote", "--run", "runs/r"]
