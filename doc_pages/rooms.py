"""The pictures of the rooms: the floors of kd_ops from its import contract, arrows from the import graph."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from grimp import ImportGraph, build_graph

from doc_pages.mermaid import chart


def of_kd_ops(project: Path) -> str:
    """What imports what in kd_ops, and its floors as a table, the lowest last."""
    rows = ["| floor | room | is |", "|---|---|---|"]
    floors = _floors(project)
    for number, floor in zip(range(len(floors), 0, -1), floors, strict=True):
        rows += [f"| {number} {_row(project, f'kd_ops.{room}')}" for room in floor]
    return "\n".join([_imports("kd_ops"), "", *rows])


def of_kd_core(project: Path) -> str:
    """What imports what in kd_core, and its rooms and the rooms within as a table."""
    graph = build_graph("kd_core", cache_dir=None)
    modules = sorted(graph.find_descendants("kd_core"))
    rooms = [module for module in modules if graph.find_children(module) or module.count(".") == 1]
    return "\n".join([_imports("kd_core"), "", "| room | is |", "|---|---|", *(_row(project, room) for room in rooms)])


def _floors(project: Path) -> list[list[str]]:
    """The rooms of kd_ops, highest floor first, as the contract in pyproject.toml has them."""
    tools = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    contracts = tools["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["kd_ops"])
    return [[room.strip() for room in layer.split("|")] for layer in layers]


def _imports(package: str) -> str:
    """A chart with an arrow from each room to the rooms that it imports."""
    graph = build_graph(package, cache_dir=None)
    rooms = sorted(graph.find_children(package))
    arrows = {_name(room): [_name(other) for other in rooms if _reaches(graph, room, other)] for room in rooms}
    return chart("TD", arrows)


def _reaches(graph: ImportGraph, room: str, other: str) -> bool:
    return room != other and graph.direct_import_exists(importer=room, imported=other, as_packages=True)


def _name(module: str) -> str:
    return module.rpartition(".")[2]


def _file(project: Path, module: str) -> Path:
    """Where the module's docstring stands."""
    path = project.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _row(project: Path, module: str) -> str:
    """Where the room stands in the tree, and the first paragraph of its docstring, on one line."""
    file = _file(project, module)
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    shown = " ".join(said.split("\n\n")[0].split()).replace("|", "\\|")
    place = file.relative_to(project).as_posix().removesuffix("__init__.py")
    return f"| `{place}` | {shown} |"
