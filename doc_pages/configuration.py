"""docs/configuration.md: each key of params.yaml with type, default and meaning, from the fields of kd_core.config."""

from __future__ import annotations

import ast
import inspect
import textwrap
import typing
from collections.abc import Iterator
from itertools import pairwise

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from doc_pages.type_words import in_words
from kd_core.config.params import Params

HEAD = """\
# Configuration

Every key of `params.yaml` and of a recipe, from the code that checks them (`make docs` writes this page).

`params.yaml` holds the values that all recipes start from, `recipes/NAME.yaml` what differs,
`recipes/variants/NAME.yaml` what a baseline changes, and `kd run -S key=value` what one run changes. They are read in
this order, and the later one counts. *Default* is what counts where none of them gives a value; *needed* means that one
of them must. An unknown key is refused. `NAME` stands for a name that you choose: lower-case letters, digits and `_`.
"""

Sections = dict[type[BaseModel], list[str]]
"""A section of the parameters → the keys under which it stands, in the order of params.yaml."""


def page() -> str:
    """The whole page as Markdown."""
    sections: Sections = {}
    _collect(Params, "", sections)
    return "\n".join([HEAD, *(_section(section, keys) for section, keys in sections.items())])


def _collect(section: type[BaseModel], key: str, sections: Sections) -> None:
    sections.setdefault(section, []).append(key)
    for name, field in section.model_fields.items():
        for inner, step in _sections_in(field.annotation):
            _collect(inner, ".".join(filter(None, [key, name + step])), sections)


def _sections_in(annotation: object) -> Iterator[tuple[type[BaseModel], str]]:
    """The sections that a field may hold, and what stands between the field's key and theirs."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, ""
    step = ".NAME" if typing.get_origin(annotation) is dict else ""
    for part in typing.get_args(annotation):
        for inner, further in _sections_in(part):
            yield inner, step + further


def _section(section: type[BaseModel], keys: list[str]) -> str:
    meanings = _meanings(section)
    rows = [_row(name, field, meanings.get(name) or _of_inner(field)) for name, field in section.model_fields.items()]
    said = " ".join((section.__doc__ or "").split())
    table = ["| key | type | default | meaning |", "|---|---|---|---|", *rows]
    return "\n".join([f"## {_heading(section, keys)}", "", said, "", *table, ""])


def _heading(section: type[BaseModel], keys: list[str]) -> str:
    """The keys under which the section stands; of several sections under one key each says its kind."""
    where = ", ".join(f"`{key}`" for key in keys) if all(keys) else "Top level"
    kind = section.model_fields.get("kind")
    words = typing.get_args(kind.annotation) if kind else ()
    return f"{where}, kind: {' or '.join(words)}" if words else where


def _row(name: str, field: FieldInfo, meaning: str) -> str:
    cells = [f"`{name}`", in_words(field.annotation, field.metadata), _default(field), meaning]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _of_inner(field: FieldInfo) -> str:
    """What the section in a field says about itself."""
    return " ".join(_said(section) for section, _ in _sections_in(field.annotation))


def _said(section: type[BaseModel]) -> str:
    return " ".join((section.__doc__ or "").split("\n\n")[0].split())


def _meanings(section: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field."""
    body = [part for node in ast.parse(textwrap.dedent(inspect.getsource(section))).body for part in _inside(node)]
    found = {}
    for field, below in pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                found[name] = " ".join(said.split())
    return found


def _inside(node: ast.stmt) -> list[ast.stmt]:
    return node.body if isinstance(node, ast.ClassDef) else []


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "*needed*"
    value = field.get_default(call_default_factory=True)
    return "see there" if isinstance(value, BaseModel) else f"`{_yaml(value)}`"


def _yaml(value: object) -> str:
    """A default as it is written in params.yaml, on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump([plain], default_flow_style=True, width=1000)[1:-2]
