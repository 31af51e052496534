"""The pulse of a stage at work: uploads that may fail, and lines on progress in a scheduler's log."""

from __future__ import annotations

from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from kd_core.runtime.progress import Progress
from kd_ops.bridge import pulse
from kd_ops.bridge.pulse import Pulse
from kd_ops.bridge.state import State
from kd_ops.runs.runs import Run
from tests.helpers.bridge_stages import wait_for


def test_a_last_upload_that_fails_does_not_discard_the_stage(tmp_path: Path) -> None:
    class Away(Run):
        def local_path(self, name: str) -> Path | None:
            return None

    run = Away(str(tmp_path / "run"))

    def refuse(name: str, data: bytes) -> None:
        raise EndpointConnectionError(endpoint_url="http://store")

    with Pulse(run, "slow", tmp_path, State(run, str(tmp_path / "store"), "key")) as pulse:
        pulse.log.write_text("done")
        run.storage.write = refuse  # type: ignore[method-assign]


def test_a_bug_does_not_stop_the_signs_of_life(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next beat may succeed; without any, others take the work of a living stage over."""
    monkeypatch.setattr(pulse, "INTERVAL_S", 0.01)
    monkeypatch.setattr(pulse, "BEATS_A_LINE", 1)
    monkeypatch.setenv("STORE_PASSWORD", "hunter2-hunter2")
    beats: list[int] = []

    def beat(self: State) -> None:
        beats.append(len(beats))
        raise KeyError("a bug beside hunter2-hunter2")

    def say(self: Pulse) -> None:
        raise ValueError("another one")

    monkeypatch.setattr(State, "beat", beat)
    monkeypatch.setattr(Pulse, "_say", say)
    run = Run(str(tmp_path / "run"))
    with Pulse(run, "slow", tmp_path, State(run, str(tmp_path / "store"), "key")):
        wait_for(lambda: len(beats) > 2)
    assert "KeyError: 'a bug beside ***'" in caplog.text
    assert "ValueError: another one" in caplog.text


@pytest.mark.parametrize("local", [True, False])
def test_a_schedulers_log_gets_a_line_on_progress_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], local: bool
) -> None:
    monkeypatch.setattr(pulse, "INTERVAL_S", 0.01)
    run = Run(str(tmp_path / "run"))
    if not local:
        monkeypatch.setattr(Run, "local_path", lambda self, name: None)
    beats: list[int] = []
    monkeypatch.setattr(State, "beat", lambda self: beats.append(len(beats)))
    said = ""

    def has_said(words: str) -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return words in said

    with Pulse(run, "pretrain", tmp_path, State(run, str(tmp_path / "store"), "key")) as running:
        wait_for(lambda: has_said("pretrain: at work for "))
        progress = Progress("pretrain", running.progress)
        progress.update("epoch 1/4", 5, 20, loss=0.25)
        progress.update("epoch 2/4", 20, 20, loss=0.125)
        wait_for(lambda: has_said("  epoch 2/4  100%  20/20 rows · "))
    assert said.splitlines()[-1].endswith("· loss 0.125")
    assert "epoch 1/4" not in said.splitlines()[-1]
    assert len(said.splitlines()) <= len(beats) / 3, "a line every third beat"
