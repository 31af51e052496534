"""Saved teachers, one of each kind of task, and a base without a classifier, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL
from tests.helpers import tiny_multi_label
from tests.helpers.teachers import Taught, multi_label_teacher
from tests.helpers.tiny import tiny_base, tiny_rows, tiny_task, tiny_teacher


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teacher(tmp_path_factory.mktemp("teacher") / "tiny")


@pytest.fixture(scope="session")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher whose texts may have several labels."""
    return multi_label_teacher(tmp_path_factory.mktemp("several"))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(params=[CLASSIFICATION, MULTI_LABEL])
def taught(request: pytest.FixtureRequest) -> Taught:
    """A teacher of each kind of task."""
    if request.param == MULTI_LABEL:
        folder = request.getfixturevalue("several")
        return Taught(folder, tiny_multi_label.multi_label_rows, tiny_multi_label.TASK, "gold_example_f1")
    return Taught(request.getfixturevalue("folder"), tiny_rows, tiny_task(), "gold_accuracy")
