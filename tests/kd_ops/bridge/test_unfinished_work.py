"""Unfinished work has one owner: left alone while it lives, taken over once it is dead or gives up."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.bridge import state
from kd_ops.bridge.pulse import Pulse
from kd_ops.bridge.stage_run import run_stage
from kd_ops.bridge.state import State
from kd_ops.bridge.transfer import StageData
from tests.helpers.bridge_stages import assert_counted_once, log, nobody_works, prepared, wait_for
from tests.helpers.miniature import Miniature


def test_a_killed_bridge_takes_its_command_along_and_another_run_takes_over(mini: Miniature) -> None:
    first = prepared(mini)
    process = mini.start(first, "slow")
    wait_for(lambda: "step 2" in log(first))
    process.kill()
    process.communicate()
    wait_for(lambda: nobody_works(mini))
    assert not mini.trace.exists(), "no orphan goes on working"
    second = prepared(mini, "second")
    assert run_stage(second, "slow", mini.settings("two")) == 0
    done = mini.trace.read_text()
    assert done == f"finished from {second.uri}\n"
    assert "step 0" not in log(second)
    record = second.stage("slow")
    assert record is not None
    assert not list((Path(mini.store_uri) / "state").rglob("*.json")), "nothing unfinished is left behind"


def test_a_second_try_leaves_the_living_first_one_alone(mini: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    """As a scheduler starts it that has lost sight of the first: one checkpoint, one log, one writer."""
    run = prepared(mini)
    process = mini.start(run, "slow")
    wait_for(lambda: "step 1" in log(run))
    assert run_stage(run, "slow", mini.settings("two")) == 75
    assert f"still at work: process {process.pid};" in capsys.readouterr().err
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert_counted_once(run, mini)


def test_a_first_try_elsewhere_is_waited_for_until_it_gives_no_more_signs(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(state, "_place", lambda: "another machine")
        State(mini.run(), mini.store_uri, "key").open()
    second = State(mini.run(), mini.store_uri, "key")
    with pytest.raises(TryAgainError, match="another machine"):
        second.open()
    monkeypatch.setattr(state, "BEAT_LIMIT_S", -1.0)
    second.open()
    second.open()


def test_work_that_fails_may_be_taken_over_at_once(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the command ended well and its outputs could not be brought away; till then signs of life go on."""
    beating: list[bool] = []

    def fail(self: StageData) -> None:
        beating.append(any(isinstance(thread, Pulse) for thread in threading.enumerate()))
        raise TryAgainError("the store is full")

    run = prepared(mini)
    with monkeypatch.context() as full:
        full.setattr(StageData, "push", fail)
        assert run_stage(run, "slow", mini.settings()) == 75
    assert beating == [True]
    monkeypatch.setattr(state, "_place", lambda: "another machine")
    assert run_stage(run, "slow", mini.settings("two")) == 0
    assert_counted_once(run, mini)


def test_a_living_owners_work_is_left_alone(mini: Miniature) -> None:
    first, second = mini.run("first"), mini.run("second")
    owner = State(first, mini.store_uri, "key")
    owner.open()
    Path(owner.url).mkdir(parents=True)
    (Path(owner.url) / "done").write_text("0 1")
    other = State(second, mini.store_uri, "key")
    assert other.open() is None
    other.remove()
    assert (Path(owner.url) / "done").read_text() == "0 1"
    owner.release()
    assert State(second, mini.store_uri, "key").open() == owner.url


def elsewhere(mini: Miniature, name: str, monkeypatch: pytest.MonkeyPatch) -> State:
    """An owner on another machine with one file of unfinished work."""
    owner = State(mini.run(name), mini.store_uri, "key")
    with monkeypatch.context() as away:
        away.setattr(state, "_place", lambda: "another machine")
        owner.open()
    Storage(owner.url).write("done", b"0 1")
    return owner


def test_a_machine_whose_clock_is_wrong_keeps_its_work(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the store's clock counts: what the other machines say of the time is not asked."""
    right = time.time
    with monkeypatch.context() as late:
        late.setattr(time, "time", lambda: right() - 1000)
        owner = elsewhere(mini, "first", monkeypatch)
    other = State(mini.run("second"), mini.store_uri, "key")
    monkeypatch.setattr(time, "time", lambda: right() + 1000)
    assert other.open() is None
    other.remove()
    assert Storage(owner.url).read("done") == b"0 1"
    file, silent = Path(mini.store_uri, "state/key/first.json"), right() - 2 * state.BEAT_LIMIT_S
    os.utime(file, (silent, silent))
    assert State(mini.run("third"), mini.store_uri, "key").open() == owner.url


@pytest.mark.parametrize("name", ["first", "..", "a/../../other"])
def test_no_file_of_the_store_makes_a_run_touch_another_folder(mini: Miniature, tmp_path: Path, name: str) -> None:
    precious = Storage(tmp_path / "precious")
    precious.write("thesis", b"years of work")
    owners = Storage(f"{mini.store_uri}/state/key")
    owners.write(f"{name}.json", b'{"url": "%s", "time": 0.0, "place": null}' % precious.url.encode())
    file = Path(mini.store_uri, "state/key", f"{name}.json")
    os.utime(file, (0, 0))
    run = State(mini.run("second"), mini.store_uri, "key")
    assert run.open() is None
    run.remove()
    assert precious.read("thesis") == b"years of work"
    assert mini.run("second").exists()
