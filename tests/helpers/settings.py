"""Fixtures of settings: `conftest.py` of a folder imports the one that its tests want."""

from __future__ import annotations

import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest

from kd_ops.base.settings import Settings
from kd_ops.registering import register
from kd_ops.registry.registry import connect, tracking_uri
from tests.helpers.fabricated import make_settings


@cache
def _empty_registry() -> Path:
    """A database in which MLflow's tables are: it takes seconds to make them."""
    found = Settings(home=Path(tempfile.mkdtemp(prefix="kd-registry-")))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    client = connect(found)
    client.search_experiments()
    client.search_registered_models()
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    return found.home / "mlflow.db"


def with_registry(settings: Settings) -> Settings:
    """The same settings, with an empty registry."""
    settings.home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_empty_registry(), settings.home / "mlflow.db")
    return settings


@pytest.fixture(name="settings")
def settings_of_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings below a folder of the test, which the command line finds too."""
    found = make_settings(tmp_path)
    monkeypatch.setenv("KD_HOME", str(found.home))
    return found


@pytest.fixture(name="settings", scope="module")
def settings_of_a_file(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A registry of its own for each file."""
    return with_registry(make_settings(tmp_path_factory.mktemp("registry")))


@pytest.fixture
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the proof of the packed model, for students that are made of bytes only."""
    monkeypatch.setattr(register, "prove", lambda packed, folder: None)


@pytest.fixture
def elsewhere(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Another machine, which shares store, runs and registry, and no lock."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(settings))
    shared = {name: getattr(settings, name) for name in ("store_uri", "runs_uri", "cache_dir")}
    return Settings(home=tmp_path / "elsewhere", **shared)
