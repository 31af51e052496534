"""A registry of its own for each file, and another machine that shares it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_ops import register
from kd_ops.registry import tracking_uri
from kd_ops.settings import Settings
from tests.code.fabricated import make_settings


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return make_settings(tmp_path_factory.mktemp("registry"))


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the proof of the packed model, for students that are made of bytes only."""
    monkeypatch.setattr(register, "prove", lambda packed, folder: None)


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Another machine, which shares store, runs and registry, and no lock."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(settings))
    shared = settings.model_dump(include={"store_uri", "runs_uri", "cache_dir"})
    return Settings(home=tmp_path / "elsewhere", **shared)
