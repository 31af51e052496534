"""The whole tiny pipeline over real servers: store, runs and artifacts on S3, databases of MLflow and Airflow on
PostgreSQL. One machine computes; another reuses, and is killed again and again.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psycopg
import pytest

from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.runs.objects import Objects, object_name
from kd_ops.runs.outs import Outs, read_document
from kd_ops.runs.runs import Run
from tests.e2e.test_pipeline import STAGES
from tests.helpers.postgres import Postgres
from tests.helpers.s3_server import S3Server
from tests.helpers.tiny_project import environment, kd, make

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TIMED = {"measure", "report"}
"""Stages whose outputs tell of this machine's speed."""


@dataclass(frozen=True)
class Place:
    """A project whose machines share what the two servers keep."""

    project: Path
    settings: dict[str, str]
    mlflow: str
    airflow: str

    def environment(self, machine: str) -> dict[str, str]:
        """The environment of a user on one machine."""
        own = {"KD_HOME": str(self.project.parent / machine), "KD_PROJECT": str(self.project)}
        return environment(self.project, **self.settings, **own)

    def kd(self, machine: str, *words: str) -> str:
        """What `kd` says; it must end well."""
        done = kd(self.project, *words, **self.settings, KD_HOME=str(self.project.parent / machine))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def newest_run(self, machine: str) -> Run:
        """The run that a machine's last `kd` made."""
        shown = json.loads(self.kd(machine, "show", "--json"))
        return Run(f"{self.settings['KD_RUNS_URI']}/{shown['run']}")

    def of(self, machine: str) -> Settings:
        """The settings of one machine."""
        home = self.project.parent / machine
        return Settings(
            project=self.project, home=home, store_uri=self.settings["KD_STORE_URI"], cache_dir=home / "cache"
        )


@pytest.fixture(scope="module")
def place(s3: S3Server, databases: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    project = make(tmp_path_factory.mktemp("tiny"))
    tracking, airflow = databases.database("mlflow"), databases.database("airflow")
    settings = {
        **s3.environment,
        "KD_STORE_URI": s3.url("tiny/store"),
        "KD_RUNS_URI": s3.url("tiny/runs"),
        "MLFLOW_TRACKING_URI": tracking,
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": airflow,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3.environment.items():
            patch.setenv(name, value)
        yield Place(project, settings, tracking, airflow)


@pytest.fixture(scope="module")
def first(place: Place) -> Run:
    """A run that computed everything, through Airflow."""
    place.kd("one", "run", "--recipe", "tiny")
    return place.newest_run("one")


@pytest.fixture(scope="module")
def second(place: Place, first: Run) -> Run:
    """The same run on another machine, without Airflow."""
    place.kd("two", "repro", "--recipe", "tiny")
    return place.newest_run("two")


def test_everything_lies_on_the_servers(place: Place, s3: S3Server, first: Run) -> None:
    records = first.stages()
    assert set(records) == STAGES
    assert {record.status for record in records.values()} == {"done"}
    shown = json.loads(place.kd("one", "show", "--json"))
    assert shown["model"] == {"name": "kd-tiny", "version": "1", "aliases": ["champion"]}
    assert shown["report"].startswith(f"{s3.url('tiny/runs')}/")
    client = mlflow.MlflowClient(place.mlflow, place.mlflow)
    version = client.get_model_version("kd-tiny", "1")
    assert version.source.startswith(s3.url("tiny/store/mlartifacts/"))
    assert not list(place.project.parent.glob("one/**/*.db")), "a database of this machine"
    assert not (place.project.parent / "one/mlartifacts").exists()
    with psycopg.connect(place.airflow.replace("+psycopg", "")) as connection:
        found = connection.execute("SELECT state FROM dag_run").fetchall()
    assert found == [("success",)]
    assert s3.half_objects("tiny/store") == []


def test_another_machine_computes_nothing_and_answers(place: Place, first: Run, second: Run) -> None:
    assert second.locks() == first.locks()
    assert {name for name, record in second.stages().items() if not record.cached} <= TIMED
    said = place.kd("two", "predict", "--model", "models:/kd-tiny@champion", "--json", "the small apple gets a")
    assert json.loads(said.strip().splitlines()[-1])["label"] in {"red", "green", "blue"}


def test_stages_killed_at_random_moments_end_as_undisturbed_ones(
    place: Place, s3: S3Server, first: Run, second: Run, request: pytest.FixtureRequest
) -> None:
    """Everything of a stage is taken away, and the stage is computed again by processes that are killed."""
    seed = random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    stages = sorted(STAGES - TIMED)
    wanted = request.config.getoption("--kills")
    chosen = chance.sample(stages, wanted) if wanted <= len(stages) else chance.choices(stages, k=wanted)
    for stage in chosen:
        _take_away(place, second, stage)
        words = ["-m", "kd_ops.bridge", "--run", second.uri, stage]
        moment = chance.uniform(0, first.stages()[stage].seconds + 2)
        _start_and_kill(place, words, moment)
        assert _start_and_kill(place, words) == 0, f"seed {seed}: {stage} after {moment:.2f} s"
        assert second.lock(stage) == first.lock(stage), f"seed {seed}: {stage} after {moment:.2f} s"
    assert _metrics(place, second) == _metrics(place, first)
    assert s3.half_objects("tiny/store") == []
    closing = ["-m", "kd_ops.tracking.track", "--run", second.uri]
    _start_and_kill(place, closing, chance.uniform(1, 6))
    assert _start_and_kill(place, closing) == 0, f"seed {seed}"
    client = mlflow.MlflowClient(place.mlflow, place.mlflow)
    experiments = [found.experiment_id for found in client.search_experiments()]
    runs = client.search_runs(experiments, max_results=5000)
    assert len(runs) > len(STAGES)
    assert [run.info.run_name for run in runs if run.info.status == "RUNNING"] == [], f"seed {seed}"


def _take_away(place: Place, run: Run, stage: str) -> None:
    """Delete the stage's results everywhere: from the run, the run-cache, the store and this machine's cache."""
    record, settings = run.stages()[stage], place.of("two")
    objects = {md5 for out in record.outs.values() for md5 in Objects(settings).members(out)}
    others = {name: other for name, other in run.stages().items() if name != stage}
    kept = {md5 for other in others.values() for out in other.outs.values() for md5 in Objects(settings).members(out)}
    store = Storage(f"{settings.store_uri}/dvc")
    store.delete(f"runs/{str(record.key)[:2]}/{record.key}")
    for md5 in objects - kept:
        store.delete(object_name(md5))
        (settings.cache_dir / object_name(md5)).unlink(missing_ok=True)
    run.storage.delete(f"locks/{stage}.json")


def _start_and_kill(place: Place, words: list[str], moment: float | None = None) -> int:
    """Run Python with these words on machine two; kill it with SIGKILL at this moment, in seconds; the exit status."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=place.project,
        env=place.environment("two"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    if moment is not None:
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
    return process.wait(timeout=300)


def _metrics(place: Place, run: Run) -> dict[str, object]:
    return read_document(Outs.of(run, place.of("two")), "evaluation/metrics.json")
