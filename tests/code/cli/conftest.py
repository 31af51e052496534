"""Settings below a folder of the test, which the command line finds too."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_ops.settings import Settings
from tests.code.fabricated import make_settings


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    found = make_settings(tmp_path)
    monkeypatch.setenv("KD_HOME", str(found.home))
    return found
