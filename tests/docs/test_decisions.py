"""Each decision is one short file of the same form."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import PROJECT

DECISIONS = sorted((PROJECT / "docs" / "decisions").glob("*.md"))


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: str(path.stem))
def test_a_decision_has_context_decision_and_consequences(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    number = re.fullmatch(r"(\d{4})-[a-z0-9-]+", path.stem)
    assert number, "a decision's file is called NNNN-short-name.md"
    assert text.startswith(f"# {int(number[1])}. ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"]


def test_numbers_are_unique() -> None:
    assert len({path.stem[:4] for path in DECISIONS}) == len(DECISIONS)
