"""The bridge's exit statuses: whose fault it is, and whether trying again helps."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from dvc_data.hashfile.hash_info import HashInfo

from components.base import Component, Context
from components.base import run as run_component
from kd_core.runtime.errors import InvalidDataError, ParamsError, outside_failure
from kd_ops.bridge.__main__ import main
from kd_ops.bridge.stage_run import run_stage
from kd_ops.runs.runs import Run
from kd_ops.stages.graph import check_stage_name
from kd_ops.stages.versions import check_versions
from tests.helpers.bridge_stages import compute, prepared_parts
from tests.helpers.miniature import Miniature


@pytest.mark.parametrize("status", [1, 65, 137])
def test_the_commands_status_is_the_bridges(mini: Miniature, monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    run = prepared_parts(mini)
    monkeypatch.setenv("MINIATURE_STATUS", str(status))
    assert run_stage(run, "join", mini.settings()) == status
    record = run.stage("join")
    assert record is not None
    assert (record.status, record.exit_code, record.tries) == ("failed", status, 1)
    assert "the reason for it" in (record.error or "")
    assert run.lock("join") is None


def test_a_missing_upstream_is_75_and_names_the_stage_that_owes_it(
    mini: Miniature, capsys: pytest.CaptureFixture[str]
) -> None:
    run = mini.run()
    assert run_stage(run, "make@a", mini.settings()) == 0
    assert run_stage(run, "join", mini.settings()) == 75
    assert "stage make@b owes it" in capsys.readouterr().err
    assert run.stage("make@b") is None, "nothing upstream is computed"


@pytest.mark.parametrize("what", ["listing", "file"])
def test_upstream_data_lost_from_the_store_is_65_and_made_again_by_a_new_run(
    mini: Miniature, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    """Trying again cannot help: within a run nobody computes what has been computed."""
    run = prepared_parts(mini)
    for path in (Path(mini.store_uri) / "dvc/files").rglob("*"):
        if path.is_file() and path.name.endswith(".dir") == (what == "listing"):
            path.unlink()
    assert run_stage(run, "join", mini.settings("two")) == 65
    said = capsys.readouterr().err
    assert "the shared store has lost" in said
    assert "run make@a again, or start a new run" in said
    assert compute(mini, mini.run("new"), "make@a", "make@b", "join", machine="two") == [False] * 3


def test_upstream_data_that_does_not_come_is_75(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared_parts(mini)

    class Silent:
        failed = frozenset({HashInfo("md5", "123")})

    monkeypatch.setattr("dvc.repo.fetch.fetch", lambda *words, **more: 0)
    monkeypatch.setattr("dvc.data_cloud.DataCloud.pull", lambda *words, **more: Silent)
    assert run_stage(run, "join", mini.settings("two")) == 75
    assert "could not be fetched (123); check the store, then run again" in capsys.readouterr().err


@pytest.mark.parametrize(("number", "said"), [("0.1", "instead of 0.1"), (None, "missing instead of 1.0")])
def test_a_worker_with_other_libraries_computes_nothing_but_may_reuse(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: str | None, said: str
) -> None:
    """The key says what the run was started with; another version's result must not be found under it."""
    graph, name = mini.project / "dvc.yaml", "pandas" if number else "no-such-library"
    graph.write_text(graph.read_text().replace("    - sizes.${item.item}\n", "    - resolved.versions.data\n"))
    wanted = number or "1.0"
    run, other = (mini.run(each, versions={"data": {name: wanted}}) for each in ("first", "second"))
    assert run_stage(run, "make@a", mini.settings()) == 65
    errors = capsys.readouterr().err
    assert f"this worker has {name}" in errors
    assert said in errors
    with monkeypatch.context() as upgraded:
        upgraded.setattr("kd_ops.stages.versions.release", lambda _: wanted)
        assert run_stage(run, "make@a", mini.settings()) == 0
    assert run_stage(other, "make@a", mini.settings("two")) == 0


def test_a_build_of_a_release_is_that_release(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kd_ops.stages.versions.version", lambda _: "2.13.0+cpu")
    check_versions({"resolved.versions.training": {"torch": "2.13.0"}, "student": {"torch": "1"}})
    with pytest.raises(InvalidDataError, match=r"torch 2\.13\.0 instead of 2\.12\.0"):
        check_versions({"resolved.versions.training": {"torch": "2.12.0"}})


def test_a_missing_output_is_70(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared_parts(mini)
    monkeypatch.setenv("MINIATURE_FORGET", "1")
    assert run_stage(run, "join", mini.settings()) == 70
    assert "did not write joined" in capsys.readouterr().err


def test_a_stage_that_writes_into_its_inputs_fails_and_spoils_no_cache(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = prepared_parts(mini)
    monkeypatch.setenv("MINIATURE_SPOIL", "1")
    assert run_stage(run, "join", mini.settings()) == 1
    assert "changed its input parts/a/number.txt" in capsys.readouterr().err
    monkeypatch.delenv("MINIATURE_SPOIL")
    assert run_stage(run, "join", mini.settings()) == 0
    assert b"spoilt" not in b"".join(path.read_bytes() for path in Path(mini.store_uri).rglob("*") if path.is_file())


@pytest.mark.parametrize("name", ["a; echo x", "../x", "Upper", "make@a; echo x", "make@../x", "make@A", "a@b@c", ""])
def test_a_hostile_stage_name_is_refused_before_anything_is_written(mini: Miniature, name: str) -> None:
    run = mini.run()
    before = sorted(mini.folder.rglob("*"))
    with pytest.raises(ParamsError):
        check_stage_name(name)
    assert main(["--run", run.uri, name]) == 64
    assert sorted(mini.folder.rglob("*")) == before


def test_an_unknown_stage_and_a_run_without_params_are_64(mini: Miniature, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_stage(mini.run(), "nosuch", mini.settings()) == 64
    assert "there are make@a" in capsys.readouterr().err
    assert run_stage(Run(f"{mini.runs_uri}/never"), "join", mini.settings()) == 64


class OutOfMemoryError(RuntimeError):
    """Named as PyTorch's for GPUs."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "file"), 75),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 75),
        (EndpointConnectionError(endpoint_url="http://store"), 75),
        (ClientError({"Error": {"Code": "SlowDown"}}, "PutObject"), 75),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"), 137),
        (OutOfMemoryError("CUDA out of memory"), 137),
        (MemoryError(), 137),
        (InvalidDataError("row 3"), 65),
    ],
)
def test_what_is_not_the_components_fault_has_a_status_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    def fail(context: Context) -> None:
        raise error

    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("{}\n")
    with pytest.raises(SystemExit) as caught:
        run_component(Component("fails"), fail, [])
    assert caught.value.code == status


def test_a_bug_is_not_taken_for_a_failure_outside() -> None:
    assert outside_failure(FileNotFoundError(errno.ENOENT, "No such file or directory")) is None
    own = ValueError("of its own")
    own.__context__ = PermissionError(errno.EACCES, "Permission denied")
    assert outside_failure(own) is not None, "what went wrong while a failure outside was handled"
    own.__suppress_context__ = True
    assert outside_failure(own) is None


def test_the_tries_of_a_stage_add_up_to_its_cost(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    run = prepared_parts(mini)
    monkeypatch.setenv("KD_PROFILE", "gpu")
    monkeypatch.setenv("KD_PRICE_PER_HOUR", "3600")
    monkeypatch.setenv("MINIATURE_STATUS", "75")
    spent = []
    for _ in range(2):
        assert run_stage(run, "join", mini.settings()) == 75
        record = run.stage("join")
        assert record is not None
        assert record.profile == "gpu"
        spent.append((record.cost, record.seconds))
    assert spent[0][0] == pytest.approx(spent[0][1])
    assert spent[1][0] == pytest.approx(spent[0][1] + spent[1][1])
