"""An answer is kept for the same inputs only, and a damaged file is as good as none."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from kd_ops.base.remembered import FOLDER, remembered
from kd_ops.base.settings import Settings


@pytest.fixture
def maker(tmp_path: Path) -> ModuleType:
    module = ModuleType("maker")
    module.__file__ = str(tmp_path / "maker.py")
    (tmp_path / "maker.py").write_text("1", encoding="utf-8")
    return module


def test_only_new_inputs_are_worked_out(tmp_path: Path, maker: ModuleType) -> None:
    settings, asked = Settings(home=tmp_path / "home"), []

    def ask(inputs: list[int]) -> dict[str, int]:
        def make() -> dict[str, int]:
            asked.append(inputs)
            return {"b": sum(inputs), "a": 0}

        answer: dict[str, int] = remembered("sum", inputs, [maker], make, settings)
        return answer

    assert [list(ask(inputs).items()) for inputs in ([1], [1], [2], [1])] == [
        [("b", value), ("a", 0)] for value in (1, 1, 2, 1)
    ]
    assert asked == [[1], [2], [1]]
    Path(str(maker.__file__)).write_text("2", encoding="utf-8")
    ask([1])
    ask([1])
    assert asked == [[1], [2], [1], [1]]


@pytest.mark.parametrize("content", ["", "[]", "{}", json.dumps({"asked": "x"})])
def test_a_damaged_file_is_written_anew(tmp_path: Path, maker: ModuleType, content: str) -> None:
    settings = Settings(home=tmp_path)
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "one.json").write_text(content, encoding="utf-8")
    assert remembered("one", 1, [maker], lambda: 1, settings) == 1
    assert remembered("one", 1, [maker], lambda: 2, settings) == 1


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path: Path, maker: ModuleType) -> None:
    (tmp_path / FOLDER).write_text("a file", encoding="utf-8")
    assert remembered("one", 1, [maker], lambda: 1, Settings(home=tmp_path)) == 1
