"""Surroundings of every test: homes in a temporary folder, no telemetry, no network hubs, one thread a process.

Airflow reads its settings when it is first imported, so they are set here, before any test module is.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kd_core.serving.predictor import Predictor

PROJECT = Path(__file__).resolve().parent.parent
_HOME = Path(tempfile.mkdtemp(prefix="kd-tests-"))

os.environ.update(
    {
        "KD_HOME": str(_HOME / "kd"),
        "AIRFLOW_HOME": str(_HOME / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(PROJECT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "DVC_NO_ANALYTICS": "1",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(PROJECT),
    }
)
for _name in (
    "AWS_CONFIG_FILE",
    "AWS_PROFILE",
    "KD_STATE",
    "KD_PROGRESS",
    "KD_RUN",
    "KD_STORE_URI",
    "KD_RUNS_URI",
    "KD_CACHE_DIR",
    "KD_S3_ADDRESSING",
    "KD_S3_ENCRYPTION",
    "MLFLOW_TRACKING_URI",
):
    os.environ.pop(_name, None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long first: the last ones of several workers are short, and none is left alone with a long one.

    pytest-xdist keeps this order with --no-loadscope-reorder.
    """
    marks = {(item.path, mark.name) for item in items for mark in item.iter_markers()}
    items.sort(key=lambda item: ((item.path, "e2e") not in marks, (item.path, "slow") not in marks))


def pytest_addoption(parser: pytest.Parser) -> None:
    """How often a test kills a stage with SIGKILL."""
    parser.addoption("--kills", type=int, default=4, help="how many stages tests/e2e/test_services.py kills")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of public benchmark data sets, named by KD_SHARED_DATA; the test is skipped without it."""
    folder = os.environ.get("KD_SHARED_DATA")
    if not folder:
        pytest.skip("KD_SHARED_DATA is not set: it names the folder of the public benchmark data sets")
    return Path(folder)


@pytest.fixture(autouse=True)
def _own_object_store() -> Iterator[None]:
    """fsspec keeps its connections and settings, and with them what one test's environment said."""
    yield
    if s3fs := sys.modules.get("s3fs"):
        s3fs.S3FileSystem.clear_instance_cache()
    if fsspec := sys.modules.get("fsspec"):
        fsspec.config.conf.pop("s3", None)


@pytest.fixture(autouse=True)
def _own_tracking_store() -> Iterator[None]:
    """`mlflow.set_tracking_uri` writes the variable: the next test, or a fixture of its module, would log there."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that Predictor.load reads."""
    from tests.helpers.tiny_exits import exported_student  # with torch, which most tests of kd_ops do without

    return exported_student(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def student(exported: Path) -> Predictor:
    """The student in it."""
    from kd_core.serving.predictor import Predictor

    return Predictor.load(exported)
