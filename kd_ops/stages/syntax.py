"""What of a Python file can change a stage's result: its syntax tree, and what it imports.

The digest is that of `ast.dump` without positions. It does not see comments, formatting, docstrings (also those below
an attribute) and what stands under `if TYPE_CHECKING:`. Python may dump the same code differently from one minor
version to the next, so digests of different minor versions must not be compared: the project runs on 3.11 alone, and
another version gives every stage a new key.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256

from kd_core.runtime.errors import ParamsError


@dataclass(frozen=True)
class Source:
    """One Python file."""

    digest: str
    imports: frozenset[str]
    """Dotted names that it asks for, anywhere in the file: modules, and names in modules."""


@lru_cache(maxsize=2048)
def read(path: str, content: bytes) -> Source:
    """The file `path` (relative to the project, with `/`). Raises ParamsError for what is not Python."""
    try:
        tree = _Effective().visit(ast.parse(content))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        where = f"{path}, line {line}" if line else path
        raise ParamsError(f"{where}: not valid Python ({getattr(error, 'msg', error)}); correct the file") from None
    package = path.split("/")[:-1]
    names = {name for node in ast.walk(tree) for name in _asked_for(node, package)}
    return Source(sha256(ast.dump(tree).encode()).hexdigest(), frozenset(names))


class _Effective(ast.NodeTransformer):
    """Drops what is never executed: texts that stand alone, and branches for the type checker."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        return node.orelse if _is_type_checking(node.test) else node


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _asked_for(node: ast.AST, package: list[str]) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    above = package[: len(package) - node.level + 1] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]
