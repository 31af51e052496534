"""A variant without teachers through the real bridge: an empty matrix upstream of a stage that reads a folder of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.tiny_project import environment, make

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

STAGES = ["ingest@pretraining", "ingest@reference", "validate@pretraining", "pretrain"]


def test_without_teachers_pretrain_finds_an_empty_folder_of_scores(tmp_path: Path) -> None:
    project = make(tmp_path)
    code = (
        "import sys; from kd_ops.resolving.resolve import resolve; from kd_ops.launching.repro import repro; "
        f"sys.exit(repro(resolve('tiny', variants=['alone']), {STAGES}))"
    )
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=project, env=environment(project), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    run = next((project / ".kd" / "runs").iterdir())
    assert {path.stem for path in (run / "locks").iterdir()} == set(STAGES)
