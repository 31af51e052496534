"""Why the classes of params are in no stage's key: all that they say stands in the values, which are.

A stage reads its params from what `resolve` wrote. A changed default or field changes those values. What else could
change a stage's result behind the back of its key is forbidden here.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from kd_core.config.base import Section
from kd_core.config.data import TASKS
from kd_core.config.params import Params
from kd_ops.base.documents import from_yaml, to_yaml
from kd_ops.resolving.merge import merged_params, recipe_path
from kd_ops.stages.closures import PARAMS_CLASSES
from tests.conftest import PROJECT

MODULES = {path: importlib.import_module(path.removesuffix(".py").replace("/", ".")) for path in sorted(PARAMS_CLASSES)}
CLASSES = {
    name: value
    for module in MODULES.values()
    for name, value in vars(module).items()
    if inspect.isclass(value) and issubclass(value, Section) and value.__module__ == module.__name__
}
STAGE_CODE = [path for room in ("kd_core", "components") for path in sorted((PROJECT / room).rglob("*.py"))]
RECIPES = sorted(path.stem for path in (PROJECT / "recipes").glob("*.yaml"))
VARIANTS = sorted(path.stem for path in (PROJECT / "recipes/variants").glob("*.yaml"))


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@pytest.mark.parametrize("path", MODULES)
def test_a_module_of_params_has_no_functions(path: str) -> None:
    assert not [node.name for node in tree(PROJECT / path).body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize("name", CLASSES)
def test_a_class_of_params_has_fields_and_validators_only(name: str) -> None:
    model, plain = CLASSES[name], set(vars(Section))
    found = model.__pydantic_decorators__
    validators = {*found.field_validators, *found.model_validators}
    methods = {key for key, value in vars(model).items() if key not in plain and not key.startswith(("__", "model_"))}
    assert {key for key in methods if not key.startswith("_abc_")} <= validators | set(model.model_fields)
    assert not found.computed_fields
    assert not found.field_serializers
    assert not found.model_serializers


def imported(path: Path) -> Iterator[tuple[str, Any]]:
    """Name → value of what a file imports from the modules of params."""
    modules = {module.__name__: module for module in MODULES.values()}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module in modules:
            for alias in node.names:
                yield alias.name, getattr(modules[node.module], alias.name)


def is_type(value: Any) -> bool:
    return inspect.isclass(value) or bool(get_args(value))


def test_stage_code_takes_classes_types_and_names_of_kinds_from_them() -> None:
    """The name of a kind is a value of params too: another name changes the keys."""
    others = [path for path in STAGE_CODE if path.relative_to(PROJECT).as_posix() not in PARAMS_CLASSES]
    found = {name: value for path in others for name, value in imported(path)}
    assert not {
        name for name, value in found.items() if not is_type(value) and value is not TASKS and value not in [*TASKS]
    }


def test_stage_code_relies_on_no_default() -> None:
    for path in STAGE_CODE:
        if path.relative_to(PROJECT).as_posix() in PARAMS_CLASSES:
            continue
        known = {name: value for name, value in imported(path) if name in CLASSES}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
                given, fields = {word.arg for word in node.keywords}, set(known[node.func.id].model_fields)
                assert given == fields, f"{path}:{node.lineno}: give {sorted(fields - given)} too"


def words(value: Any) -> Any:
    """All values with their types, which `==` of models does not compare (1 == 1.0 == True)."""
    if isinstance(value, BaseModel):
        return {name: words(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, dict):
        return {key: words(item) for key, item in value.items()}
    return [words(item) for item in value] if isinstance(value, tuple) else repr(value)


@pytest.mark.parametrize("recipe", RECIPES)
def test_validators_leave_alone_what_was_let_through_before(recipe: str) -> None:
    for variant in (None, *VARIANTS):
        if (recipe, variant) == ("match", "static"):  # pairs of texts are refused
            continue
        path = recipe_path(recipe, PROJECT)
        params = merged_params(PROJECT, path, [], None, [variant] if variant else [])
        again = Params.model_validate(from_yaml(to_yaml(params.model_dump(mode="json"))))
        assert words(again) == words(params)
