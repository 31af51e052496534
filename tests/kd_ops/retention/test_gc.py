"""`kd gc`: what stays, what goes, and when it must not look."""

from __future__ import annotations

import io
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from kd_core.runtime.errors import ParamsError
from kd_ops.bridge.state import State
from kd_ops.retention import gc
from kd_ops.retention.safety import check_view
from kd_ops.runs.notes import note_registered, note_run
from kd_ops.runs.runs import Run, list_runs
from tests.helpers.bridge_stages import compute, finished
from tests.helpers.miniature import Miniature
from tests.helpers.old_runs import created, fetched, later, two_runs


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
    gc.delete(garbage, 1, ["registered"], settings, later())
    left = gc.find(1, ["registered"], settings, later())
    assert (left.files, left.local) == ((), {})
    assert [run.id for run in list_runs(settings)] == ["new", "registered"]
    assert sorted(names(settings.cache_dir / "files")) == sorted(names(Path(mini.store_uri, "dvc/files")))
    shutil.rmtree(settings.cache_dir)
    assert compute(mini, mini.run("again")) == [True] * 5
    assert compute(mini, mini.run("kept", join={"separator": "*"})) == [True] * 5
    assert compute(mini, mini.run("lost", join={"separator": "+"})) == [True, True, True, False, False]


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
    gc.delete(garbage, 1, [], settings)
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


def test_a_folder_that_is_half_deleted_is_not_taken_for_whole(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fetched(mini.settings().home / "served/kd-route/1-17", datetime.now(UTC) - timedelta(days=31))

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kd_ops.retention.gc_machine.shutil.rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        gc.delete(gc.find(1, [], mini.settings()), 1, [], mini.settings())
    assert not folder.exists()


def test_gc_refuses_where_runs_of_the_store_are_not_in_sight(mini: Miniature) -> None:
    settings, stranger = mini.settings(), Run(str(mini.folder / "elsewhere/theirs"))
    own = mini.run("own")
    note_run(own, settings.store_uri)
    check_view([], settings, datetime.now(UTC))
    note_run(stranger, settings.store_uri)
    with pytest.raises(ParamsError, match=r"elsewhere/theirs .*Set KD_RUNS_URI"):
        check_view([], settings, datetime.now(UTC))
    with pytest.raises(ParamsError):
        gc.collect(1, False, Console(file=io.StringIO()), settings)
    shutil.rmtree(Path(settings.store_uri, "ledgers/runs"))
    State(stranger, settings.store_uri, "key").beat()
    with pytest.raises(ParamsError, match="theirs, which is at work"):
        check_view([], settings, datetime.now(UTC))


def test_gc_refuses_an_empty_registry_beside_a_store_that_registered(mini: Miniature) -> None:
    """As without MLFLOW_TRACKING_URI in the shell: a database below KD_HOME, and nothing in it."""
    settings, run = mini.settings(), mini.run("own")
    note_registered(run, "kd-route", "1", settings.store_uri)
    check_view(["own"], settings, datetime.now(UTC))
    with pytest.raises(ParamsError, match=r"mlflow\.db shows no registered version.*set MLFLOW_TRACKING_URI"):
        gc.collect(1, True, Console(file=io.StringIO()), settings)


def test_a_run_that_goes_takes_its_notes_along(mini: Miniature) -> None:
    settings = mini.settings()
    old, _ = two_runs(mini)
    note_run(old, settings.store_uri)
    note_registered(old, "kd-route", "1", settings.store_uri)
    gc.delete(gc.find(1, [], settings, later()), 1, [], settings, later())
    assert [run.id for run in list_runs(settings)] == ["new"]
    check_view([], settings, datetime.now(UTC))
