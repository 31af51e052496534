"""The end of a run: one process where nothing was computed, and each step's own process in every other case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kd_core.runtime.errors import TryAgainError
from kd_ops.base.settings import Settings
from kd_ops.promotion import close
from kd_ops.registry.registry import connect
from kd_ops.runs.results import read_result
from kd_ops.runs.runs import Run, StageRecord
from tests.helpers.fabricated import finished_run, new_run
from tests.helpers.promoting import champion_of, named, right

STUDENT = {"model.json": b'{"task": {"kind": "classification", "labels": ["red", "x"]}}', "model.safetensors": b"w"}


def status(run: Run, settings: Settings) -> str:
    return str(connect(settings).get_run(read_result(run)["mlflow_run"]).info.status)


@pytest.mark.usefixtures("unproven")
def test_only_a_run_without_news_is_closed_in_one_process(settings: Settings) -> None:
    name = "kd-close"
    fresh = finished_run(settings, "fresh", right(0.8), STUDENT, named(name))
    assert close.close(fresh, settings) == []
    assert "model" not in read_result(fresh)
    assert close.close(fresh, settings, always=True) == ["register", "promote"]
    assert champion_of(settings, name) == "1"
    again = finished_run(settings, "again", right(0.8), STUDENT, named(name), cached=True)
    assert close.close(again, settings) == ["register", "promote"]
    assert read_result(again)["verdict"] == "HOLD"
    assert "identical" in read_result(again)["reasons"][0]
    assert status(again, settings) == "FINISHED"


@pytest.mark.usefixtures("unproven")
def test_a_version_deleted_by_others_is_made_again(settings: Settings) -> None:
    """Nothing on this machine remembers that the student was registered: the registry is asked each time."""
    name = "kd-close-deleted"
    runs = [finished_run(settings, f"deleted-{each}", right(0.8), STUDENT, named(name), cached=True) for each in (1, 2)]
    close.close(runs[0], settings)
    connect(settings).delete_model_version(name, "1")
    assert close.close(runs[1], settings) == ["register", "promote"]
    assert read_result(runs[1])["model"]["version"] == "2"
    assert read_result(runs[1])["verdict"] == "HOLD", "the ledger knows the champion that is gone"


def test_an_unfinished_run_is_tracked_only(settings: Settings) -> None:
    run = new_run(settings, "unfinished")
    run.write_stage(StageRecord("teach@minilm_l6", "done", cached=True, tries=1))
    assert close.close(run, settings) == []
    assert status(run, settings) == "FAILED"


@pytest.mark.usefixtures("unproven")
def test_a_step_that_fails_is_left_to_its_own_process(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> None:
        raise TryAgainError("the registry is busy")

    run = finished_run(settings, "failing", right(0.8), STUDENT, named("kd-close-failing"), cached=True)
    with monkeypatch.context() as patch:
        patch.setattr("kd_ops.promotion.promote.promote", fail)
        patch.setattr(close, "Settings", lambda: settings)
        close.main(["--run", run.uri, "--answer", str(tmp_path / "answer")])
        assert json.loads((tmp_path / "answer").read_bytes()) == {"settled": ["register"]}
        assert "promote is left to its own process: the registry is busy" in capsys.readouterr().err
        assert read_result(run)["failed"]["step"] == "promote"
        with pytest.raises(TryAgainError, match="busy"):
            close.close(run, settings, always=True)
    assert status(run, settings) == "FAILED"
    close.STEPS["promote"](run, settings)
    assert read_result(run)["failed"] is None
    assert status(run, settings) == "FINISHED"
