"""Which files of the documentation are generated, wholly or between two marks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from doc_pages import configuration, pipeline, rooms

END = "<!-- end -->"


def fresh(project: Path) -> dict[Path, str]:
    """The text that each generated page should have now. Raises ValueError where a page lacks a mark."""
    docs = project / "docs"
    stages = {"pipeline": pipeline.picture(project)}
    both = {"rooms of kd_ops": rooms.of_kd_ops(project), "rooms of kd_core": rooms.of_kd_core(project)}
    return {
        docs / "configuration.md": configuration.page(),
        project / "README.md": _filled(project / "README.md", stages),
        docs / "architecture.md": _filled(docs / "architecture.md", stages | both),
    }


def _filled(page: Path, parts: Mapping[str, str]) -> str:
    """The page with each part between its marks, `<!-- make docs: NAME -->` and END."""
    text = page.read_text(encoding="utf-8")
    for name, part in parts.items():
        start = f"<!-- make docs: {name} -->"
        before, found, rest = text.partition(start)
        _, closed, after = rest.partition(END)
        if not found or not closed:
            raise ValueError(f"{page.name} has no place for {name}: add the lines '{start}' and '{END}'")
        text = f"{before}{start}\n{part}\n{END}{after}"
    return text
