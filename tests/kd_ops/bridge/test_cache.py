"""The bridge and the shared cache: what is computed once, what is computed again, and who wins a race."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils import dict_sha256

from kd_core.config.params import Params
from kd_ops.bridge.stage_run import run_stage
from kd_ops.runs.objects import object_name, stage_key
from kd_ops.runs.runs import Run
from kd_ops.stages import machine
from kd_ops.stages.code_snapshot import code_of
from kd_ops.stages.graph import Graph
from kd_ops.stages.workspace import workspace
from tests.helpers.bridge_stages import compute, list_machine
from tests.helpers.miniature import Miniature


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


def test_the_cpu_time_of_a_command_is_not_the_bridge_s(mini: Miniature) -> None:
    run = mini.run("first")
    assert mini.bridge(run, "make@a")[0] == 0
    assert mini.bridge(mini.run("second"), "make@a")[0] == 0
    computed, reused = run.stage("make@a"), Run(f"{mini.runs_uri}/second").stage("make@a")
    assert computed is not None
    assert reused is not None
    assert computed.command_cpu_seconds
    assert reused.command_cpu_seconds == 0.0
    assert reused.overhead_cpu_seconds


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


def gpu(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A stand-in for nvidia-smi."""
    program = folder / "bin/nvidia-smi"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")


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


def test_dvc_leaves_no_param_out_of_a_key() -> None:
    """DVC drops every mapping key called `size` or `nfiles` from its keys; params must not be called so."""

    def names(schema: object) -> set[str]:
        if isinstance(schema, dict):
            own = set(schema.get("properties", {}))
            return own.union(*(names(value) for value in schema.values()))
        return set().union(*map(names, schema)) if isinstance(schema, list) else set()

    assert not names(Params.model_json_schema()) & {"size", "nfiles"}


@pytest.mark.parametrize("params", [{"a": {"size": 1, "b": [{"nfiles": 2}, "é"]}}, {}])
def test_a_key_is_dvc_s_own(params: dict[str, object]) -> None:
    """Computed without DVC, whose import costs more than all else that a HIT takes."""
    fragment = {"cmd": "x", "deps": [{"path": "p", "md5": "1", "size": 3}], "params": {"params.yaml": params}}
    expected = dict_sha256({**fragment, "outs": ["o"]}, exclude=["size", "nfiles"])
    assert stage_key(fragment, ["o"]) == expected


def test_a_hit_imports_neither_dvc_nor_pydantic(mini: Miniature) -> None:
    run = mini.run()
    compute(mini, run, "make@a")
    with workspace(mini.settings(), run.params_document(), code_of(run, mini.settings())) as folder:
        Graph.load(folder).keep(run)
    code = (
        "import sys; from kd_ops.bridge.__main__ import main; status = main();"
        "print({'dvc', 'pydantic', 'pandas', 'mlflow'} & set(sys.modules)); sys.exit(status)"
    )
    words = [sys.executable, "-c", code, *mini.command(run, "make@a")[3:]]
    done = subprocess.run(words, env=mini.environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    record = run.stage("make@a")
    assert record is not None
    assert record.cached
    assert record.overhead_cpu_seconds
