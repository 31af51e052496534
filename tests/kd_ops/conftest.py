"""The miniature project, and an environment that names it, for every test of the bridge."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.miniature import Miniature


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    mini = Miniature(tmp_path)
    for name, value in mini.environment().items():
        monkeypatch.setenv(name, value)
    return mini
