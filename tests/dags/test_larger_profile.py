"""A try that ran out of memory is followed by one with the larger profile, as Airflow itself retries it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("airflow")

DAG_FILE = """\
from datetime import datetime
from pathlib import Path

from airflow.sdk import DAG

from dags.failures import RETRY_POLICY
from dags.runners.memory import failure_of_try, profile_of_try
from dags.runners.tasks import Task


class Hungry(Task):
    def execute(self, context):
        used = profile_of_try("cpu", context)
        with Path({trace!r}).open("a") as file:
            print(used.name, file=file)
        raise failure_of_try(137, "a container", used, context)


with DAG("hungry", schedule=None, start_date=datetime(2026, 1, 1)):
    Hungry(task_id="hungry", module="none", retries=3, retry_policy=RETRY_POLICY)
"""


@pytest.mark.slow
def test_airflow_tries_once_more_with_the_larger_profile(tmp_path: Path) -> None:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
    from airflow.utils.db import initdb

    initdb()
    trace = tmp_path / "trace"
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags/hungry.py").write_text(DAG_FILE.format(trace=str(trace)), encoding="utf-8")
    bag = DagBag(tmp_path / "dags")
    DagBundlesManager().sync_bundles_to_db()
    sync_bag_to_db(bag, "dags-folder", None)
    run = bag.dags["hungry"].test()
    assert run.state == "failed"
    assert trace.read_text().split() == ["cpu", "cpu-large"]
