"""The plan: what would be reused, what would be computed, and the reason a person can act on."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kd_ops import gc
from kd_ops.plan import StagePlan, plan_document
from kd_ops.runs import Run, list_runs
from kd_ops.stage_run import run_stage
from kd_ops.state import State
from tests.miniature import STAGES, Miniature


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    mini = Miniature(tmp_path)
    for name, value in mini.environment().items():
        monkeypatch.setenv(name, value)
    return mini


def finished(mini: Miniature, name: str = "first", **params: dict[str, object]) -> Run:
    run = mini.run(name, **params)
    for stage in STAGES:
        assert run_stage(run, stage, mini.settings()) == 0
    return run


def planned(mini: Miniature, **params: dict[str, object]) -> dict[str, StagePlan]:
    """The plan of a run that is not started."""
    wanted = mini.run("wanted", **params)
    document = wanted.params_document()
    wanted.storage.delete()
    settings = mini.settings()
    plans = plan_document(document, list_runs(settings), settings)
    order = [plan.stage for plan in plans]
    assert sorted(order) == sorted(STAGES)
    assert order.index("make@a") < order.index("join") < order.index("slow")
    return {plan.stage: plan for plan in plans}


def test_before_the_first_run_all_is_new_and_nothing_is_computed(mini: Miniature) -> None:
    plans = planned(mini)
    assert not any(plan.hit for plan in plans.values())
    assert plans["make@a"].reasons == ("never computed before in this recipe",)
    assert plans["join"].reasons[:2] == ("stage make@a will be computed", "stage make@b will be computed")
    assert not list(mini.settings().cache_dir.rglob("*"))


def test_an_unchanged_run_hits_everywhere(mini: Miniature) -> None:
    finished(mini)
    assert planned(mini) == {stage: StagePlan(stage, hit=True) for stage in STAGES}


def test_a_changed_param_is_named_with_both_values(mini: Miniature) -> None:
    finished(mini)
    plans = planned(mini, join={"separator": "+"})
    assert plans["join"].reasons == ('params join.separator: "-" → "+"',)
    assert plans["slow"].reasons == ("stage join will be computed",)
    assert plans["make@a"].hit
    assert plans["part@a"].hit


def test_a_changed_code_file_is_named(mini: Miniature) -> None:
    finished(mini)
    path = mini.project / "kd_core/numbers.py"
    path.write_text(path.read_text() + "# changed\n")
    (mini.project / "kd_core/extra.py").write_text("")
    plans = planned(mini)
    assert plans["make@a"].reasons == ("kd_core/extra.py is new", "kd_core/numbers.py changed")
    assert plans["join"].reasons == ("stage make@a will be computed", "stage make@b will be computed")


def test_a_changed_input_is_named_with_the_stage_that_wrote_it(mini: Miniature) -> None:
    first = finished(mini)
    forget(mini, first, "slow")
    first.storage.delete()
    other = finished(mini, "second", join={"separator": "+"})
    plans = planned(mini)
    assert plans["join"].hit
    assert plans["slow"].reasons == ("input joined changed (from join)",)
    forget(mini, other, "slow")
    plans = planned(mini, join={"separator": "+"})
    assert plans["slow"].reasons == ("its run-cache entry is no longer in the store",)


def forget(mini: Miniature, run: Run, stage: str) -> None:
    """Take a stage's entry out of the run-cache."""
    record = run.stage(stage)
    assert record is not None
    shutil.rmtree(Path(mini.store_uri) / "dvc/runs" / str(record.key)[:2] / str(record.key))


def test_lost_data_is_said(mini: Miniature) -> None:
    finished(mini)
    shutil.rmtree(Path(mini.store_uri) / "dvc/files")
    shutil.rmtree(mini.settings().cache_dir)
    assert planned(mini)["make@a"].reasons == ("its outputs are no longer in the store",)


def later() -> datetime:
    return datetime.now(UTC) + timedelta(days=30)


def created(run: Run, time: str) -> None:
    run.storage.write("run.json", f'{{"recipe": "mini", "created": "{time}"}}'.encode())


def test_gc_keeps_what_kept_runs_use_and_takes_the_rest(mini: Miniature) -> None:
    settings = mini.settings()
    for day, (name, separator) in enumerate((("old", "+"), ("registered", "*"), ("new", "-")), start=1):
        run = finished(mini, name, join={"separator": separator})
        created(run, f"2026-01-0{day}T00:00:00+00:00")
    assert gc.find(1, ["registered"], settings).files == (), "young files stay"
    garbage = gc.find(1, ["registered"], settings, later())
    assert [run.id for run in garbage.runs] == ["old"]
    assert garbage.files
    gc.delete(garbage, settings)
    assert gc.find(1, ["registered"], settings, later()).files == ()
    assert [run.id for run in list_runs(settings)] == ["new", "registered"]
    shutil.rmtree(settings.cache_dir)
    assert all(plan.hit for plan in planned(mini).values())
    assert all(plan.hit for plan in planned(mini, join={"separator": "*"}).values())
    lost = planned(mini, join={"separator": "+"})
    assert lost["make@a"].hit
    assert not lost["join"].hit


def test_gc_leaves_runs_in_flight_and_their_state_alone(mini: Miniature) -> None:
    settings = mini.settings()
    run = mini.run("flying")
    created(run, datetime.now(UTC).isoformat())
    assert run_stage(run, "make@a", settings) == 0
    created(finished(mini, "newest"), "2099-01-01T00:00:00+00:00")
    record = run.stage("make@a")
    assert record is not None
    State(run, settings.store_uri, str(record.key)).open()
    soon = datetime.now(UTC) + timedelta(days=2)
    assert gc.find(1, [], settings, soon).runs == ()
    assert not any(name.startswith("state") for name in gc.find(1, [], settings, soon).files)
    assert [run.id for run in gc.find(1, [], settings, later()).runs] == ["flying"]
