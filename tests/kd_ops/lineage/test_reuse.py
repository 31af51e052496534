"""The pass that takes over what the store has: what it settles, and what it leaves to a process of its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from kd_core.runtime.errors import TryAgainError
from kd_ops.lineage import provenance
from kd_ops.lineage.reuse import settle
from kd_ops.runs.objects import RunCache
from kd_ops.runs.runs import Run, StageRecord
from tests.helpers.bridge_stages import compute
from tests.helpers.miniature import STAGES, Miniature


def test_one_pass_takes_over_all_that_is_known(mini: Miniature) -> None:
    first, second = mini.run("first"), mini.run("second")
    compute(mini, first)
    assert sorted(settle(second, mini.settings("two"))) == sorted(STAGES)
    assert first.locks() == second.locks()
    assert not list(mini.settings("two").cache_dir.rglob("*")), "nothing is downloaded"
    for name, record in second.stages().items():
        known = first.stage(name)
        assert known is not None
        assert (record.status, record.cached, record.exit_code, record.tries) == ("done", True, 0, 1)
        assert (record.key, record.outs) == (known.key, known.outs)
        assert record.overhead_cpu_seconds is not None
        assert record.code == known.code != {}
    (found,) = provenance.read(second.stages()["join"].outs["joined"], mini.settings())
    assert [use["run"] for use in found["reused_by"]] == ["second"]


def test_a_change_leaves_its_stage_and_what_follows(mini: Miniature) -> None:
    compute(mini, mini.run("first"))
    run = mini.run("second", join={"separator": "+"})
    assert sorted(settle(run, mini.settings())) == ["make@a", "make@b", "part@a"]
    assert run.stage("join") is None
    assert compute(mini, run, "join", "slow") == [False, False]


def test_a_stage_that_depends_on_the_machine_is_left_with_what_reads_it(mini: Miniature) -> None:
    """The worker that is meant for it may be another machine than this one."""
    graph, dep = mini.project / "dvc.yaml", "    - code/join.json\n"
    graph.write_text(graph.read_text().replace(dep, f"{dep}    - machine.json\n"))
    compute(mini, mini.run("first"))
    run = mini.run("second")
    assert sorted(settle(run, mini.settings())) == ["make@a", "make@b", "part@a"]
    assert compute(mini, run, "join", "slow") == [True, True]


def test_a_measurement_is_left_also_where_the_rest_of_the_graph_goes_on(mini: Miniature) -> None:
    graph, dep = mini.project / "dvc.yaml", "    - code/part.json\n"
    graph.write_text(graph.read_text().replace(dep, f"{dep}    - machine.json\n"))
    compute(mini, mini.run("first"))
    assert sorted(settle(mini.run("second"), mini.settings())) == ["join", "make@a", "make@b", "slow"]


def test_a_stage_that_has_begun_is_left_alone(mini: Miniature) -> None:
    compute(mini, mini.run("first"))
    run = mini.run("second")
    run.write_stage(StageRecord("make@a", "running", tries=1))
    assert settle(run, mini.settings()) == ["make@b"]
    begun = run.stage("make@a")
    assert begun is not None
    assert begun.status == "running"


def test_a_lost_result_is_left_to_be_computed(mini: Miniature) -> None:
    compute(mini, mini.run("first"), "make@a")
    shutil.rmtree(Path(mini.store_uri) / "dvc/files")
    shutil.rmtree(mini.settings().cache_dir)
    run = mini.run("second")
    assert settle(run, mini.settings()) == []
    assert run.stages() == {}
    assert compute(mini, run, "make@a") == [False]


def test_a_store_that_falls_silent_ends_the_pass(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    compute(mini, mini.run("first"))
    run, entry, asked = mini.run("second"), RunCache.entry, list[str]()

    def once(cache: RunCache, key: str) -> Any:
        asked.append(key)
        if len(asked) > 1:
            raise TryAgainError("the store is silent")
        return entry(cache, key)

    monkeypatch.setattr(RunCache, "entry", once)
    assert settle(run, mini.settings()) == ["make@a"]
    assert list(run.stages()) == ["make@a"]


def test_an_entry_that_is_deleted_meanwhile_leaves_all_to_processes(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`kd gc` may have looked at the runs before this one had its keys on record."""
    compute(mini, mini.run("first"))
    run, write = mini.run("second"), Run.write_settled

    def later(run: Run, taken: Any) -> None:
        shutil.rmtree(Path(mini.store_uri) / "dvc/runs", ignore_errors=True)
        write(run, taken)

    monkeypatch.setattr(Run, "write_settled", later)
    assert settle(run, mini.settings()) == []
    assert run.stages() == {}
    assert run.locks() == {}


def test_a_second_pass_keeps_what_the_first_one_took(mini: Miniature) -> None:
    """A scheduler may try its first task again."""
    compute(mini, mini.run("first"), "make@a")
    run = mini.run("second")
    assert settle(run, mini.settings()) == ["make@a"]
    compute(mini, mini.run("first"), "make@b")
    assert settle(mini.run("second"), mini.settings()) == ["make@b"]
    assert mini.run("second").started() == set(mini.run("second").locks()) == {"make@a", "make@b"}


def test_what_a_stage_writes_itself_counts_more_than_what_the_run_began_with(mini: Miniature) -> None:
    compute(mini, mini.run("first"))
    run = mini.run("second")
    settle(run, mini.settings())
    taken = run.lock("join")
    assert taken is not None
    again = {**taken, "cmd": "again"}
    run.write_lock("join", again)
    run.write_stage(StageRecord("join", "failed", exit_code=75, tries=2))
    record = run.stage("join")
    assert record is not None
    assert (run.lock("join"), run.locks()["join"], run.locks(["join"])) == (again, again, {"join": again})
    assert (record.status, run.stages()["join"].status) == ("failed", "failed")
    assert run.started() == set(STAGES)
