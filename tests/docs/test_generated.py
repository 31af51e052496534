"""The generated parts of the documentation are those that the code gives now."""

from __future__ import annotations

import pytest

from doc_pages.configuration import page
from doc_pages.mermaid import reduced
from doc_pages.pages import fresh
from doc_pages.type_words import in_words
from kd_core.config.base import Count, Fraction, Name
from tests.conftest import PROJECT


def test_generated_pages_are_fresh() -> None:
    stale = [path.name for path, text in fresh(PROJECT).items() if path.read_text(encoding="utf-8") != text]
    assert not stale, f"{', '.join(stale)}: stale; run `make docs` and commit what it writes"


def test_every_key_has_a_meaning() -> None:
    silent = [line for line in page().splitlines() if line.startswith("| `") and line.endswith("|  |")]
    assert not silent, f"add a docstring below these fields of kd_core/config: {silent}"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Fraction, "number ≥ 0 and ≤ 1"),
        (Count | None, "whole number ≥ 1, or null"),
        (tuple[Name, ...], "list of name"),
        (dict[str, bool], "text → true or false"),
    ],
)
def test_types_are_said_in_words(annotation: object, words: str) -> None:
    assert in_words(annotation) == words


def test_arrows_that_follow_from_others_are_left_out() -> None:
    assert reduced({"a": ["b", "c"], "b": ["c"], "c": []}) == {"a": ["b"], "b": ["c"], "c": []}
    assert reduced({"a": ["b", "c"], "b": ["c"], "c": ["b"]}) == {"a": ["b", "c"], "b": ["c"], "c": ["b"]}
