"""No secret of the environment gets into a stage's log, its record or a scheduler's log."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from kd_ops.base.redaction import redact
from kd_ops.bridge.stage_command import Stop, run_command
from kd_ops.bridge.stage_run import run_stage
from tests.helpers.miniature import Miniature

SECRET = "correct-horse-battery"


def test_a_commands_output_is_logged_without_secrets(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    environment = {**os.environ, "STORE_PASSWORD": SECRET}
    program = tmp_path / "program.py"
    program.write_text(
        f"import sys\nprint('key', {SECRET!r})\nprint('s3://user:pass@host/x')\nsys.stdout.flush()\n"
        "sys.stdout.buffer.write(b'\\xff kept\\n')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORE_PASSWORD", SECRET)
        status = run_command(f"{sys.executable} {program}", tmp_path, environment, tmp_path / "log", Stop())
    assert status == 0
    expected = b"key ***\ns3://***@host/x\n\xff kept\n"
    assert (tmp_path / "log").read_bytes() == expected
    assert capfdbinary.readouterr().err == expected


def test_a_failed_stages_record_has_no_secrets(
    mini: Miniature, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError(f"refused {SECRET}")

    monkeypatch.setenv("STORE_PASSWORD", SECRET)
    monkeypatch.setattr("kd_ops.stages.workspace.place", fail)
    run = mini.run()
    assert run_stage(run, "make@a", mini.settings()) == 1
    record = run.stage("make@a")
    assert record is not None
    assert "refused ***" in (record.error or "")
    assert SECRET not in capsys.readouterr().err


def test_a_secret_of_several_lines_is_found_line_by_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOY_PRIVATE_KEY", "first-line-of-it\nsecond-line-of-it")
    assert redact("says second-line-of-it") == "says ***"
    assert redact("first-line-of-it\nsecond-line-of-it") == "***"
