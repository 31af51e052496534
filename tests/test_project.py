"""The project's own settings leave no package out."""

from __future__ import annotations

import tomllib

from tests.conftest import PROJECT

TOOLS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]


def test_every_package_is_type_checked_layered_and_installed() -> None:
    there = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - {"tests"}
    assert set(TOOLS["mypy"]["packages"]) == there
    there -= {"benchmarks", "doc_pages"}  # run from a checkout, and free to reach into every layer
    assert set(TOOLS["importlinter"]["root_packages"]) == there
    assert {name.rstrip("*") for name in TOOLS["setuptools"]["packages"]["find"]["include"]} == there
