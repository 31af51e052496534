"""The plan: what would be reused, what would be computed, and the reason a person can act on."""

from __future__ import annotations

import shutil
from pathlib import Path

from kd_ops.resolving.plan import StagePlan, plan_document
from kd_ops.runs.runs import Run, list_runs
from tests.helpers.bridge_stages import finished
from tests.helpers.miniature import STAGES, Miniature


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
    path.write_text("import kd_core.extra\n" + path.read_text())
    (mini.project / "kd_core/extra.py").write_text("")
    (mini.project / "kd_core/never_imported.py").write_text("")
    plans = planned(mini)
    assert plans["make@a"].reasons == ("kd_core/extra.py is new", "kd_core/numbers.py changed")
    assert plans["join"].reasons == ("stage make@a will be computed", "stage make@b will be computed")


def test_comments_docstrings_and_formatting_change_no_plan(mini: Miniature) -> None:
    finished(mini)
    path = mini.project / "kd_core/numbers.py"
    path.write_text('"""Numbers."""\n# changed\n' + path.read_text().replace("return", "'a docstring'\n    return"))
    assert planned(mini) == {stage: StagePlan(stage, hit=True) for stage in STAGES}


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
