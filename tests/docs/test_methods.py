"""Each `path::name` of docs/methods.md leads to something that exists, and its lines stay readable."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.conftest import PROJECT

METHODS = (PROJECT / "docs" / "methods.md").read_text(encoding="utf-8")
REFERENCES = sorted(set(re.findall(r"`([\w/.-]+\.py)::([\w.]+)`", METHODS)))
LONGEST = 160


@cache
def names(path: str) -> frozenset[str]:
    """What the file defines at its top, and `Class.member` for what its classes define."""
    body = ast.parse((PROJECT / path).read_text(encoding="utf-8")).body
    inner = {f"{node.name}.{name}" for node in body if isinstance(node, ast.ClassDef) for name in defined(node.body)}
    return frozenset(defined(body) | inner)


def defined(body: list[ast.stmt]) -> set[str]:
    found: set[str] = set()
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                found.add(node.name)
            case ast.Assign():
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    return found


def test_what_methods_refers_to_exists() -> None:
    files = {path for path, _ in REFERENCES}
    missing = [path for path in sorted(files) if not (PROJECT / path).is_file()]
    missing += [f"{path}::{name}" for path, name in REFERENCES if path not in missing and name not in names(path)]
    assert not missing, f"docs/methods.md refers to what does not exist: {', '.join(missing)}"


def test_every_rule_names_code_and_tests() -> None:
    rules = re.split(r"\n(?=- )", METHODS.split("## Not yet")[0])[1:]
    silent = [
        rule.splitlines()[0] for rule in rules if "  - code: `" not in rule or not re.search(r"  - tests?:\s+`", rule)
    ]
    assert not silent, f"docs/methods.md: no code or no test below: {silent}"


def test_no_line_of_methods_is_too_long() -> None:
    long = [number for number, line in enumerate(METHODS.splitlines(), 1) if len(line) > LONGEST]
    assert not long, f"docs/methods.md: lines {long} have more than {LONGEST} characters"
