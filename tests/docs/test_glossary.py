"""The glossary explains words that are used."""

from __future__ import annotations

import re

from tests.conftest import PROJECT

GLOSSARY = (PROJECT / "docs" / "glossary.md").read_text(encoding="utf-8")
WORDS = re.findall(r"^\| ([a-z][a-z -]*(?:, [a-z -]+)*) \|", GLOSSARY, re.MULTILINE)[1:]


def test_every_word_is_used_in_another_page() -> None:
    pages = [PROJECT / "README.md", *(PROJECT / "docs").rglob("*.md")]
    text = "\n".join(page.read_text(encoding="utf-8").lower() for page in pages if page.name != "glossary.md")
    unused = [word for words in WORDS for word in words.split(", ") if word not in text]
    assert not unused, f"docs/glossary.md explains what no page says: {', '.join(unused)}"


def test_about_25_words_one_line_each() -> None:
    assert 20 <= len(WORDS) <= 35
    assert len(WORDS) == len(set(WORDS))
