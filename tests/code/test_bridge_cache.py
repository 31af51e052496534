"""The bridge and the shared cache: what is computed once, what is computed again, and who wins a race."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kd_core.config.params import Params
from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops import inputs, machine, provenance
from kd_ops.checkout import checkout
from kd_ops.documents import to_yaml
from kd_ops.objects import Objects, object_name
from kd_ops.runs import Run, StageRecord
from kd_ops.stage_run import run_stage
from tests.miniature import STAGES, Miniature


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    mini = Miniature(tmp_path)
    for name, value in mini.environment().items():
        monkeypatch.setenv(name, value)
    return mini


def compute(mini: Miniature, run: Run, *stages: str, machine: str = "one") -> list[bool]:
    """Run stages in this process; whether each was reused."""
    cached = []
    for stage in stages or STAGES:
        assert run_stage(run, stage, mini.settings(machine)) == 0
        record = run.stage(stage)
        assert record is not None
        assert record.status == "done"
        cached.append(record.cached)
    return cached


def test_a_stage_computed_on_one_machine_is_a_hit_on_another(mini: Miniature) -> None:
    first, second = mini.run("first"), mini.run("second")
    assert compute(mini, first) == [False] * 5
    assert compute(mini, second, machine="two") == [True] * 5
    assert first.locks() == second.locks()
    assert not list(mini.settings("two").cache_dir.rglob("*")), "a hit downloads nothing"


def test_a_machine_without_cache_pulls_what_the_stage_reads_and_nothing_else(mini: Miniature) -> None:
    compute(mini, mini.run("first"), "make@a", "make@b", "part@a")
    run = mini.run("second", join={"separator": "+"})
    assert compute(mini, run, "make@a", "make@b", "part@a", "join", machine="two") == [True, True, True, False]
    joined = run.stage("join")
    assert joined is not None
    assert (mini.settings("two").cache_dir / object_name(joined.outs["metrics.json"])).is_file()


def test_changed_code_in_a_listed_room_is_a_miss_and_in_an_unlisted_file_a_hit(mini: Miniature) -> None:
    compute(mini, mini.run("first"), "make@a")
    (mini.project / "components/join.py").write_text("raise SystemExit(1)\n")
    assert compute(mini, mini.run("second"), "make@a") == [True]
    (mini.project / "kd_core/numbers.py").write_text("def number(size):\n    return 'changed'\n")
    assert compute(mini, mini.run("third"), "make@a") == [False]


def test_code_that_is_edited_during_a_run_is_the_next_runs(mini: Miniature) -> None:
    run = mini.run("first")
    compute(mini, run, "make@a")
    numbers = mini.project / "kd_core/numbers.py"
    numbers.write_text("def number(size):\n    return 'changed'\n")
    (mini.project / "dvc.yaml").write_text("stages: {}\n")
    shutil.rmtree(mini.project / "components")
    compute(mini, run, "make@b")
    assert text_of(mini, run, "make@b", "parts/b") == "222"
    mini.restore("dvc.yaml", "components/make.py")
    second = mini.run("second")
    assert compute(mini, second, "make@b") == [False]
    assert text_of(mini, second, "make@b", "parts/b") == "changed"


def text_of(mini: Miniature, run: Run, stage: str, out: str) -> str:
    """The number that a stage wrote."""
    files = Objects(mini.settings()).listing((run.stage(stage) or StageRecord("")).outs[out])
    return Objects(mini.settings()).read(files["number.txt"]).decode()


def test_unchanged_code_is_kept_once_and_hits_the_cache(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    first = mini.run("first")
    compute(mini, first, "make@a")
    (kept,) = Path(mini.store_uri, "code").iterdir()
    monkeypatch.setattr("kd_ops.code_snapshot.ZipFile", lambda *_: pytest.fail("packed again"))
    second = mini.run("second")
    monkeypatch.undo()
    assert compute(mini, second, "make@a") == [True]
    assert list(Path(mini.store_uri, "code").iterdir()) == [kept]


@pytest.mark.parametrize("damage", ["lost", "other", "broken"])
def test_code_that_the_store_has_lost_is_75(mini: Miniature, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    run = mini.run("first")
    (kept,) = Path(mini.store_uri, "code").iterdir()
    (mini.project / "kd_core/numbers.py").write_text("other")
    mini.run("second")
    (other,) = set(Path(mini.store_uri, "code").iterdir()) - {kept}
    content = {"lost": None, "other": other.read_bytes(), "broken": kept.read_bytes()[:-30]}[damage]
    kept.unlink()
    if content is not None:
        kept.write_bytes(content)
    assert run_stage(run, "make@a", mini.settings()) == 75
    assert f"code/{kept.name}) is not in the store" in capsys.readouterr().err


def test_a_run_that_keeps_no_code_is_refused(mini: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    run = mini.run()
    run.storage.write("params.yaml", to_yaml({key: value for key, value in run.params().items() if key != "resolved"}))
    assert run_stage(run, "make@a", mini.settings()) == 64
    assert "start a new run" in capsys.readouterr().err


def test_bytecode_and_file_modes_are_not_part_of_a_key(mini: Miniature) -> None:
    (mini.project / "components/make.py").chmod(0o777)
    compute(mini, mini.run("first"), "make@a")
    (mini.project / "kd_core/__pycache__").mkdir()
    (mini.project / "kd_core/__pycache__/numbers.cpython-311.pyc").write_bytes(b"bytecode")
    for path in mini.project.rglob("*.py"):
        path.chmod(0o755)
    assert compute(mini, mini.run("second"), "make@a") == [True]


def test_lost_data_is_computed_again(mini: Miniature) -> None:
    first = mini.run("first")
    compute(mini, first, "make@a")
    shutil.rmtree(Path(mini.store_uri) / "dvc/files")
    shutil.rmtree(mini.settings().cache_dir)
    assert compute(mini, mini.run("second"), "make@a") == [False]
    assert compute(mini, mini.run("third"), "make@a", machine="two") == [True]


@pytest.mark.parametrize("content", [b"", b"outs: [", b"\xff"])
def test_an_unreadable_entry_is_computed_again_and_replaced(mini: Miniature, content: bytes) -> None:
    compute(mini, mini.run("first"), "make@a")
    (entry,) = (path for path in Path(mini.store_uri, "dvc/runs").rglob("*") if path.is_file())
    entry.write_bytes(content)
    assert compute(mini, mini.run("second"), "make@a") == [False]
    assert compute(mini, mini.run("third"), "make@a") == [True]


def test_an_entry_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append((tmp_path / "entry").exists()))
    assert Storage(tmp_path).create("entry", b"content")
    assert synced == [False]


def gpu(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A stand-in for nvidia-smi."""
    program = folder / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


def list_machine(mini: Miniature) -> None:
    """Let `make` depend on the machine."""
    graph, dep = mini.project / "dvc.yaml", "    - components/make.py\n"
    graph.write_text(graph.read_text().replace(dep, f"{dep}    - machine.json\n"))


def test_the_machine_is_asked_for_by_the_stages_that_list_it(
    mini: Miniature, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu(tmp_path, monkeypatch, f"touch {tmp_path}/asked; exec sleep 20")
    monkeypatch.setattr(machine, "_GPU_SECONDS", 0.2)
    compute(mini, mini.run("first"), "make@a")
    (tmp_path / "asked").unlink(missing_ok=True)
    assert compute(mini, mini.run("second"), "make@a") == [True]
    assert not (tmp_path / "asked").exists()
    list_machine(mini)
    assert run_stage(mini.run("third"), "make@a", mini.settings()) == 75
    assert "nvidia-smi gave no answer" in capsys.readouterr().err


def test_the_number_of_threads_is_part_of_the_machine(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    list_machine(mini)
    for threads, cached in (("1", False), ("1", True), ("3,2", False)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        assert compute(mini, mini.run(f"with-{threads[0]}-{cached}"), "make@a") == [cached]
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert machine.machine()["threads"] == len(os.sched_getaffinity(0))


def test_data_that_only_this_machine_has_is_uploaded_on_a_hit(mini: Miniature) -> None:
    compute(mini, mini.run("first"), "make@a")
    shutil.rmtree(Path(mini.store_uri) / "dvc/files")
    assert compute(mini, mini.run("second"), "make@a") == [True]
    assert compute(mini, mini.run("third"), "make@a", machine="two") == [True]


def test_two_runs_racing_on_one_key_end_with_one_result(mini: Miniature, tmp_path: Path) -> None:
    """The stage is made non-deterministic, and both are known to compute at the same time."""
    meeting = tmp_path / "meeting"
    meeting.mkdir()
    runs = [mini.run("first"), mini.run("second")]
    processes = [
        mini.start(run, "make@a", name, MINIATURE_MEET=str(meeting), MINIATURE_NOISE=name)
        for run, name in zip(runs, ("one", "two"), strict=True)
    ]
    assert [(process.communicate(timeout=120)[1], process.returncode)[1] for process in processes] == [0, 0]
    records = [run.stage("make@a") for run in runs]
    assert [record.cached for record in records if record] == [False, False]
    assert runs[0].lock("make@a") == runs[1].lock("make@a"), "the slower one adopts the faster one's result"
    compute(mini, mini.run("third"), "make@a", machine="three")
    assert mini.run("third").lock("make@a") == runs[0].lock("make@a")


def test_two_runs_at_once_on_one_machine_do_not_disturb_each_other(mini: Miniature) -> None:
    runs = [mini.run(name, sizes={"a": size, "b": 2}) for size, name in enumerate(("first", "second"))]
    processes = [mini.start(run, "make@a") for run in runs]
    assert [(process.communicate(timeout=120)[1], process.returncode)[1] for process in processes] == [0, 0]
    assert runs[0].lock("make@a") != runs[1].lock("make@a")


def test_plain_dvc_finds_a_finished_run_up_to_date(mini: Miniature, tmp_path: Path) -> None:
    """One graph, two runners: the bridge's lock fragments are what DVC itself would have written."""
    run, folder = mini.run("first"), tmp_path / "plain"
    compute(mini, run)
    (mini.project / "kd_core/numbers.py").write_text("edited since")
    checkout(run, folder, mini.settings())
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

    def dvc(*words: str) -> str:
        command = [sys.executable, "-m", "dvc", *words]
        return subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True).stdout

    assert json.loads(dvc("metrics", "show", "--json"))[""]["data"]["metrics.json"]["data"] == {"files": 2}
    assert '"make@a" -> "join";' in dvc("dag", "--dot")
    dvc("pull")
    assert "up to date" in dvc("status")
    assert (folder / "joined/all.txt").stat().st_nlink == 1, "whoever writes here must not write into the cache"
    (folder / "dvc.lock").unlink()
    shutil.rmtree(folder / "parts")
    dvc("pull", "--run-cache", "--allow-missing")
    assert "is cached" in dvc("repro", "make@a")


def test_a_run_is_laid_out_whole_in_a_new_folder_or_not_at_all(mini: Miniature, tmp_path: Path) -> None:
    rows, folder = tmp_path / "rows.csv", tmp_path / "plain"
    rows.write_text("text")
    address, _ = inputs.snapshot(rows, mini.store_uri)
    list_machine(mini)
    run = mini.run("first", join={"separator": address})
    folder.mkdir()
    checkout(run, folder, mini.settings())
    assert (folder / address).read_text() == "text"
    assert (folder / "machine.json").is_file()
    with pytest.raises(ParamsError, match="not empty"):
        checkout(run, folder, mini.settings())
    shutil.rmtree(Path(mini.store_uri, address).parent)
    with pytest.raises(TryAgainError):
        checkout(run, tmp_path / "other", mini.settings())
    assert not (tmp_path / "other").exists()


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


def test_dvc_leaves_no_param_out_of_a_key() -> None:
    """DVC drops every mapping key called `size` or `nfiles` from its keys; params must not be called so."""

    def names(schema: object) -> set[str]:
        if isinstance(schema, dict):
            own = set(schema.get("properties", {}))
            return own.union(*(names(value) for value in schema.values()))
        return set().union(*map(names, schema)) if isinstance(schema, list) else set()

    assert not names(Params.model_json_schema()) & {"size", "nfiles"}
