"""Where an output comes from: run, commit, params, and who used it again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kd_ops.bridge.stage_run import run_stage
from kd_ops.lineage import provenance
from tests.helpers.bridge_stages import compute
from tests.helpers.miniature import Miniature


def test_provenance_says_who_made_an_output_and_who_used_it(mini: Miniature) -> None:
    compute(mini, mini.run("first"), "make@a", "make@b", "join")
    compute(mini, mini.run("second"), "make@a", "make@b", "join")
    record = mini.run("second").stage("join")
    assert record is not None
    (found,) = provenance.read(record.outs["joined"], mini.settings())
    assert (found["run"], found["stage"], found["paths"]) == ("first", "join", ["joined"])
    assert found["params"] == {"join": {"separator": "-"}}
    assert found["inputs"]["parts"].endswith(".dir")
    assert [use["run"] for use in found["reused_by"]] == ["second"]


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


def committed(mini: Miniature) -> None:
    """Make the project a git repository with one commit."""
    (mini.project / ".gitignore").write_text("__pycache__\n*_local.py\n")
    git(mini.project, "init", "--quiet")
    git(mini.project, "add", "--all")
    git(mini.project, "commit", "--quiet", "--message", "all")


def test_an_image_tells_the_commit_that_it_was_built_from(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provenance.git_state(mini.project) is None
    monkeypatch.setenv("KD_GIT_SHA", "0a1b2c")
    assert provenance.git_state(mini.project) == {"sha": "0a1b2c", "dirty": False}
    committed(mini)
    state = provenance.git_state(mini.project)
    assert state is not None
    assert state["sha"] != "0a1b2c", "a repository knows better"


def test_code_that_git_does_not_know_makes_the_tree_dirty(mini: Miniature) -> None:
    committed(mini)

    def dirty() -> bool:
        state = provenance.git_state(mini.project)
        assert state is not None
        return bool(state["dirty"])

    (mini.project / "notes.txt").write_text("no code")
    (mini.project / "kd_core/__pycache__").mkdir()
    (mini.project / "kd_core/__pycache__/numbers.cpython-311.pyc").write_bytes(b"bytecode")
    assert not dirty()
    for name in ("extra.py", "extra_local.py"):  # the second one git is told to ignore, and yet it would run
        (mini.project / "kd_core" / name).write_text("")
        assert dirty(), name
        (mini.project / "kd_core" / name).unlink()
    (mini.project / "dvc.yaml").write_text("stages: {}\n")
    assert dirty()


def test_an_output_comes_from_the_commit_that_its_run_was_started_at(mini: Miniature) -> None:
    run = mini.run()
    committed(mini)
    run.storage.write("run.json", b'{"run": "first", "recipe": "mini", "git": {"sha": "abc", "dirty": false}}')
    compute(mini, run, "make@a")
    record = run.stage("make@a")
    assert record is not None
    [found] = provenance.read(record.outs["parts/a"], mini.settings())
    assert found["git"]["sha"] == "abc"


def test_equal_outputs_of_two_stages_each_have_their_own_origin(mini: Miniature) -> None:
    run = mini.run("first", sizes={"a": 1, "b": 1})
    compute(mini, run, "make@a", "make@b")
    compute(mini, mini.run("second", sizes={"a": 1, "b": 1}), "make@b")
    records = run.stages()
    md5 = records["make@b"].outs["parts/b"]
    assert records["make@a"].outs["parts/a"] == md5
    found = {record["stage"]: record for record in provenance.read(md5, mini.settings())}
    assert {stage: record["paths"] for stage, record in found.items()} == {"make@a": ["parts/a"], "make@b": ["parts/b"]}
    assert {stage: record["params"] for stage, record in found.items()} == {
        "make@a": {"sizes.a": 1},
        "make@b": {"sizes.b": 1},
    }
    assert [[use["run"] for use in found[stage]["reused_by"]] for stage in ("make@a", "make@b")] == [[], ["second"]]


def test_equal_outputs_under_two_keys_each_have_their_own_origin(mini: Miniature) -> None:
    """Counting a little slower comes to the same text."""
    for name, seconds in (("first", 0.0), ("second", 0.001)):
        run = mini.run(name, slow={"steps": 2, "seconds": seconds})
        compute(mini, run, "make@a", "make@b", "join", "slow")
    record = mini.run("second").stage("slow")
    assert record is not None
    found = provenance.read(record.outs["slow/steps.txt"], mini.settings())
    assert {origin["run"]: origin["params"]["slow"]["seconds"] for origin in found} == {"first": 0.0, "second": 0.001}


def test_nothing_can_be_reused_before_its_origin_is_on_record(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise SystemExit(143)

    with monkeypatch.context() as patch:
        patch.setattr(provenance, "record_computed", killed)
        assert run_stage(mini.run("first"), "make@a", mini.settings()) == 143
    run = mini.run("second")
    assert compute(mini, run, "make@a") == [False]
    record = run.stage("make@a")
    assert record is not None
    assert [found["run"] for found in provenance.read(record.outs["parts/a"], mini.settings())] == ["second"]
