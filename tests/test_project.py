"""The project's own settings leave no package out."""

from __future__ import annotations

import tomllib
from graphlib import TopologicalSorter

from grimp import build_graph

from tests.conftest import PROJECT

TOOLS = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]


def test_every_package_is_type_checked_layered_and_installed() -> None:
    there = {path.parent.name for path in PROJECT.glob("*/__init__.py")} - {"tests"}
    assert set(TOOLS["mypy"]["packages"]) == there
    there -= {"benchmarks", "doc_pages"}  # run from a checkout, and free to reach into every layer
    assert set(TOOLS["importlinter"]["root_packages"]) == there
    assert {name.rstrip("*") for name in TOOLS["setuptools"]["packages"]["find"]["include"]} == there


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = build_graph("kd_core", "kd_ops", "components", "dags", cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle
