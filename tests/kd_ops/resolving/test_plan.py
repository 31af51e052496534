"""The plan: what would be reused, what would be computed, and the reason a person can act on."""

from __future__ import annotations

import io
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from kd_ops.bridge.stage_run import run_stage
from kd_ops.bridge.state import State
from kd_ops.resolving.plan import StagePlan, plan_document
from kd_ops.retention import gc
from kd_ops.runs.runs import Run, list_runs
from tests.helpers.miniature import STAGES, Miniature


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
    assert {path.name for path in garbage.local} == {name.rsplit("/", 1)[1] for name in cached(garbage)}
    gc.delete(garbage, settings)
    left = gc.find(1, ["registered"], settings, later())
    assert (left.files, left.local) == ((), {})
    assert [run.id for run in list_runs(settings)] == ["new", "registered"]
    assert sorted(names(settings.cache_dir / "files")) == sorted(names(Path(mini.store_uri, "dvc/files")))
    shutil.rmtree(settings.cache_dir)
    assert all(plan.hit for plan in planned(mini).values())
    assert all(plan.hit for plan in planned(mini, join={"separator": "*"}).values())
    lost = planned(mini, join={"separator": "+"})
    assert lost["make@a"].hit
    assert not lost["join"].hit


def names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def cached(garbage: gc.Garbage) -> list[str]:
    """The data among what goes from the store; the machine that computed it has it too."""
    return [name for name in garbage.files if name.startswith("dvc/files")]


def test_gc_keeps_the_code_of_kept_runs_only(mini: Miniature) -> None:
    codes = []
    for day, name in enumerate(("old", "new"), start=1):
        (mini.project / "kd_core/extra.py").write_text(name)
        created(mini.run(name), f"2026-01-0{day}T00:00:00+00:00")
        codes.append(set(names(Path(mini.store_uri, "code"))))
    garbage = gc.find(1, [], mini.settings(), later())
    assert garbage.files == tuple(f"code/{name}" for name in codes[0])
    assert len(codes[1]) == 2


def test_gc_takes_what_was_fetched_long_ago_and_lies_idle(mini: Miniature) -> None:
    settings = mini.settings()
    now = datetime.now(UTC)
    old, recent = (now - timedelta(days=days) for days in (31, 29))
    idle = fetched(settings.home / "served/kd-route/1-17", old)
    partial = fetched(settings.home / "downloads/.abc.123.tmp", old)
    read = fetched(settings.home / "served/kd-route/2-18", old, recent)
    fetched(settings.home / "downloads/abc", recent)
    garbage = gc.find(1, [], settings, now)
    assert garbage.local == {idle: 7, partial: 7}
    gc.delete(garbage, settings)
    assert [path.name for path in idle.parent.iterdir()] == [read.name]
    assert [path.name for path in partial.parent.iterdir()] == ["abc"]


def test_gc_says_what_would_go_and_deletes_only_when_told(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gc, "registered_runs", lambda _: set())
    folder = fetched(mini.settings().home / "downloads/abc", datetime.now(UTC) - timedelta(days=31))
    for really, verb in ((False, "would be deleted"), (True, "deleted")):
        assert folder.exists()
        out = Console(file=io.StringIO())
        gc.collect(1, really, out, mini.settings())
        assert isinstance(out.file, io.StringIO)
        said = out.file.getvalue()
        assert f"0 files of the store (0.0 MB) and 1 files and folders of this machine (0.0 MB) {verb}\n" in said
        assert ("`kd gc --delete` deletes them" in said) is not really
    assert not folder.exists()


def fetched(folder: Path, came: datetime, read: datetime | None = None) -> Path:
    """A folder of seven bytes that came then and was read last then."""
    file = folder / "student" / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"weights")
    os.utime(file, ((read or came).timestamp(), came.timestamp()))
    return folder


def test_a_folder_that_is_half_deleted_is_not_taken_for_whole(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetched(mini.settings().home / "served/kd-route/1-17", datetime.now(UTC) - timedelta(days=31))

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kd_ops.retention.gc_machine.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        gc.delete(gc.find(1, [], mini.settings()), mini.settings())
    assert not folder.exists()


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
