"""`kd gc` beside runs that are at work: what they read, write or take over meanwhile stays."""

from __future__ import annotations

import dataclasses
import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kd_core.runtime.storage import Storage
from kd_ops.bridge.stage_run import run_stage
from kd_ops.bridge.state import State
from kd_ops.retention import gc
from kd_ops.runs.objects import Objects, RunCache
from kd_ops.runs.results import update_result
from kd_ops.runs.runs import StageRecord, list_runs
from kd_ops.stages import inputs
from kd_ops.stages.code_snapshot import code_of, digest, keep, kept_code
from kd_ops.stages.workspace import workspace
from tests.helpers.bridge_stages import compute, finished
from tests.helpers.miniature import Miniature
from tests.helpers.old_runs import created, fetched, later, two_runs


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


def test_an_old_run_that_still_gives_signs_of_life_stays(mini: Miniature) -> None:
    old, _ = two_runs(mini)
    State(old, mini.store_uri, "key").beat()
    sign = Path(mini.store_uri, "state/key/old.json")
    for silent, gone in ((timedelta(hours=1), []), (timedelta(days=2), ["old"])):
        moment = (later() - silent).timestamp()
        os.utime(sign, (moment, moment))
        assert [run.id for run in gc.find(1, [], mini.settings(), later()).runs] == gone


def test_a_finished_run_waits_some_days_for_its_registration(mini: Miniature) -> None:
    old, _ = two_runs(mini)
    settings = dataclasses.replace(mini.settings(), keep_unregistered_days=5.0)
    for days, gone in ((4, []), (6, ["old"])):
        now = datetime.now(UTC) + timedelta(days=days)
        assert [run.id for run in gc.find(1, [], settings, now).runs] == gone
    update_result(old, model={"name": "kd-route", "version": "1"})
    now = datetime.now(UTC) + timedelta(days=4)
    assert [run.id for run in gc.find(1, [], settings, now).runs] == ["old"], "its version was deleted since"


def test_what_a_run_takes_over_between_looking_and_deleting_stays(mini: Miniature) -> None:
    """As a HIT: the key is on record before the run-cache is looked at, the outputs only after."""
    old, new = two_runs(mini)
    settings = mini.settings()
    garbage = gc.find(1, [], settings, later())
    key = str((old.stage("join") or StageRecord("")).key)
    assert any(key in name for name in garbage.files)
    entry = RunCache(settings).entry(key)
    assert entry is not None
    new.write_stage(StageRecord("join", key=key))
    new.storage.delete("locks/join.json")
    gc.delete(garbage, 1, [], settings, later())
    assert compute(mini, mini.run("again", join={"separator": "+"}), "make@a", "make@b", "join") == [True] * 3


def test_what_was_read_from_the_run_cache_before_it_went_stays(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = two_runs(mini)
    settings = mini.settings()
    garbage = gc.find(1, [], settings, later())
    lock = old.lock("join")
    assert lock is not None
    key, mark, calls = str((old.stage("join") or StageRecord("")).key), gc.mark, []

    def meanwhile(*words: object) -> gc.Marks:
        calls.append(words)
        if len(calls) == 2:
            new.write_stage(StageRecord("join", key=key))
            new.storage.delete("locks/join.json")
        return mark(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(gc, "mark", meanwhile)
    gc.delete(garbage, 1, [], settings, later())
    assert len(calls) == 3
    new.write_lock("join", lock)
    shutil.rmtree(settings.cache_dir)
    slow = mini.run("again", join={"separator": "+"})
    assert compute(mini, slow, "make@a", "make@b") == [True, True]
    slow.write_lock("join", lock)
    assert run_stage(slow, "slow", settings) == 0, "what join wrote can be pulled"


def aged(*folders: str | Path, days: float = 3) -> None:
    """Let the files below seem so many days old."""
    for folder in folders:
        for path in Path(folder).rglob("*"):
            moment = (datetime.now(UTC) - timedelta(days=days)).timestamp()
            os.utime(path, (moment, moment))


def blind(monkeypatch: pytest.MonkeyPatch, mini: Miniature) -> gc.Garbage:
    """What goes by the marks of now; from here on nothing new is marked, as if all came right behind the last look."""
    settings, now = mini.settings(), datetime.now(UTC)
    garbage, marks = gc.find(1, [], settings), gc.mark(1, [], settings, now, {})
    monkeypatch.setattr(gc, "mark", lambda *words: marks)
    return garbage


def test_what_is_written_again_while_gc_deletes_stays(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that writes what is in the store already pushes nothing."""
    old, _ = two_runs(mini)
    aged(mini.store_uri, mini.runs_uri, days=20)
    garbage = blind(monkeypatch, mini)
    lost = {record.outs["joined"] for record in [old.stage("join")] if record is not None}
    for entry in Path(mini.store_uri, "dvc/runs").rglob("*"):
        if entry.is_file():
            entry.unlink()
    again = mini.run("again", join={"separator": "+"})
    assert compute(mini, again, "make@a", "make@b", "join", machine="two") == [False] * 3
    gc.delete(garbage, 1, [], mini.settings())
    objects = Objects(mini.settings("three"))
    assert objects.missing({each for md5 in lost for each in objects.members(md5)}) == []


def test_code_and_inputs_that_a_run_starts_with_while_gc_deletes_stay(
    mini: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder, code = mini.settings(), tmp_path / "weights", {"a": b"code"}
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "unwanted").mkdir()
    (folder / "unwanted/rows.csv").write_text("text")
    wanted, unwanted = (inputs.snapshot(each, mini.store_uri).address for each in (folder, folder / "unwanted"))
    keep(code, mini.store_uri)
    keep({"b": b"code"}, mini.store_uri)
    created(mini.run("newest"), "2099-01-01T00:00:00+00:00")
    aged(mini.store_uri)
    garbage = blind(monkeypatch, mini)
    assert len([name for name in garbage.files if name.startswith("code/")]) == 2
    assert inputs.snapshot(folder, mini.store_uri).address == wanted
    keep(code, mini.store_uri)
    gc.delete(garbage, 1, [], settings)
    assert kept_code(digest(code), mini.store_uri) == code
    inputs.lay_out({wanted}, mini.store_uri, tmp_path / "workspace")
    assert Storage(mini.store_uri).list(unwanted) == []
    assert not Storage(mini.store_uri).exists(f"code/{digest({'b': b'code'})}.zip")


def test_a_run_that_is_registered_behind_the_back_of_the_list_stays(mini: Miniature) -> None:
    old, _ = two_runs(mini)
    aged(mini.runs_uri, days=20)
    assert [run.id for run in gc.find(1, [], mini.settings()).runs] == ["old"]
    update_result(old, model={"name": "kd-route", "version": "1"})
    assert gc.find(1, [], mini.settings()).runs == ()


def test_a_run_that_somebody_goes_on_with_while_gc_deletes_stays(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, _ = two_runs(mini)
    aged(mini.store_uri, mini.runs_uri, days=20)
    garbage, sweep = gc.find(1, [], mini.settings()), gc.gc_machine.sweep

    def meanwhile(*words: object) -> None:
        old.write_stage(StageRecord("join", tries=2))
        sweep(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(gc.gc_machine, "sweep", meanwhile)
    gc.delete(garbage, 1, [], mini.settings())
    assert sorted(run.id for run in list_runs(mini.settings())) == ["new", "old"]


def test_the_cache_stays_while_a_stage_is_at_work_here(mini: Miniature) -> None:
    settings = mini.settings()
    old, _ = two_runs(mini)
    garbage = gc.find(1, [], settings, later())
    assert any(path.is_relative_to(settings.cache_dir) for path in garbage.local)
    with workspace(settings, b"{}", code_of(old, settings)):
        assert gc.find(1, [], settings, later()).local == {}
        gc.delete(garbage, 1, [], settings, later())
        assert all(path.exists() for path in garbage.local)


def test_what_is_read_between_looking_and_deleting_stays(mini: Miniature) -> None:
    settings = mini.settings()
    folder = fetched(settings.home / "downloads/abc", datetime.now(UTC) - timedelta(days=31))
    garbage = gc.find(1, [], settings)
    assert garbage.local == {folder: 7}
    os.utime(folder / "student/model.safetensors")
    gc.delete(garbage, 1, [], settings)
    assert folder.exists()
