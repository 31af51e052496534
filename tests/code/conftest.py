"""A student that is exported once a file, for the tests that only ask it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from kd_core.inference.predictor import Predictor


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that Predictor.load reads."""
    from tests.code.tiny_exits import exported_student  # with torch, which most tests of kd_ops do without

    return exported_student(tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def student(exported: Path) -> Predictor:
    """The student in it."""
    from kd_core.inference.predictor import Predictor

    return Predictor.load(exported)
