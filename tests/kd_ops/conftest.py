"""The miniature project, and an environment that names it, for every test of the bridge."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kd_ops.bridge.stage_command import Stop
from tests.helpers.miniature import Miniature


@pytest.fixture(autouse=True)
def _a_stop_from_outside_ends_the_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stage that a test runs in this process hears a signal that is meant for pytest, and would pass for failed."""
    heard: list[int] = []
    handle = Stop._handle

    def noted(stop: Stop, signum: int, frame: Any) -> None:
        heard.append(signum)
        handle(stop, signum, frame)

    monkeypatch.setattr(Stop, "_handle", noted)
    yield
    if heard:
        pytest.exit(f"the tests were stopped from outside, by {signal.Signals(heard[0]).name}")


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    mini = Miniature(tmp_path)
    for name, value in mini.environment().items():
        monkeypatch.setenv(name, value)
    return mini
