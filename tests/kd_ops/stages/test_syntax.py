"""What of a Python file counts: its effect, not its looks."""

from __future__ import annotations

import pytest

from kd_core.runtime.errors import ParamsError
from kd_ops.stages.syntax import read

PLAIN = """\
from typing import TYPE_CHECKING
import kd_core.rows
LIMIT = 3
class Rows:
    size: int = 1
    def total(self):
        return self.size * LIMIT
"""


def digest(text: str) -> str:
    return read("kd_core/a/b.py", text.encode()).digest


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 3", "# why\nLIMIT = 3  # here"),
        ("LIMIT = 3", "LIMIT = (\n    3\n)\n\n"),
        ("LIMIT = 3", 'LIMIT = 3\n"""What it is."""'),
        ("class Rows:", 'class Rows:\n    """Rows."""'),
        ("size: int = 1", 'size: int = 1\n    """How many."""'),
        ("def total(self):", 'def total(self):\n        """All of them."""'),
        ("LIMIT = 3", "if TYPE_CHECKING:\n    import pandas\nLIMIT = 3"),
        ("LIMIT = 3", "LIMIT = 0x3"),
        (PLAIN, f'"""A module."""\n{PLAIN}'),
    ],
)
def test_looks_and_docstrings_do_not_count(before: str, after: str) -> None:
    assert digest(PLAIN.replace(before, after)) == digest(PLAIN)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", 'LIMIT = "3"'),
        ("size: int", "size: float"),
        ("self.size * LIMIT", "LIMIT * self.size"),
        ("LIMIT = 3", 'LIMIT = 3\nNAME = """not a docstring"""'),
        ("LIMIT = 3", "if TYPE_CHECKING:\n    pass\nelse:\n    LIMIT = 4"),
        ("import kd_core.rows\n", ""),
    ],
)
def test_all_that_is_executed_counts(before: str, after: str) -> None:
    assert digest(PLAIN.replace(before, after)) != digest(PLAIN)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import a.b, c as d", {"a.b", "c"}),
        ("from a import b, c as d", {"a", "a.b", "a.c"}),
        ("from . import c", {"kd_core.a", "kd_core.a.c"}),
        ("from ..d.e import f", {"kd_core.d.e", "kd_core.d.e.f"}),
        ("def late():\n    import a.b", {"a.b"}),
        ("import typing\nif typing.TYPE_CHECKING:\n    import a.b\nelse:\n    import c", {"typing", "c"}),
    ],
)
def test_imports_are_found_wherever_they_stand(text: str, expected: set[str]) -> None:
    assert read("kd_core/a/b.py", text.encode()).imports == expected
    assert read("kd_core/a/__init__.py", text.encode()).imports == expected


def test_what_is_not_python_is_named_with_its_line() -> None:
    with pytest.raises(ParamsError, match=r"kd_core/a/b\.py, line 2: not valid Python"):
        digest("LIMIT = 3\nLIMIT == = 4")
