"""Links and paths in the documentation lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import PROJECT

PAGES = sorted([PROJECT / "README.md", PROJECT / "CHANGELOG.md", *(PROJECT / "docs").rglob("*.md")])
FOLDERS = "|".join(sorted(path.name for path in PROJECT.iterdir() if path.is_dir() and not path.name.startswith(".")))
YOURS = {"recipes/tickets.yaml"}
"""A file that a reader of the examples makes."""


def name(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken, f"{name(page)}: these links lead nowhere: {', '.join(broken)}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "methods.md"], ids=name)
def test_paths_exist(page: Path) -> None:
    """Words in backticks that begin with a folder of the project are files or folders there."""
    said = re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", page.read_text(encoding="utf-8"))
    missing = [path for path in said if path not in YOURS and "NAME" not in path and not (PROJECT / path).exists()]
    assert not missing, f"{name(page)}: there is no {', '.join(missing)}"
