"""Settings of one machine, whose store and runs others share."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_ops.base.settings import Settings
from tests.helpers.recipes import machine


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return machine(tmp_path, "home")
