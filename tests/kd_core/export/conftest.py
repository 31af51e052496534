"""Students are traced once, unless a test says otherwise."""

from __future__ import annotations

import pytest

from kd_core.export import checking
from tests.helpers.traced import traced


@pytest.fixture(autouse=True)
def _traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "trace", traced)
