"""Recipes in the documentation are complete: each parses as `kd run --recipe` parses it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from kd_ops.resolving.merge import merged_params
from tests.conftest import PROJECT

PAGES = [PROJECT / "README.md", PROJECT / "docs" / "guide.md"]
RECIPES = [
    block for page in PAGES for block in re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
]


def test_there_are_recipes() -> None:
    assert len(RECIPES) >= 4


@pytest.mark.parametrize("text", RECIPES)
def test_recipes_of_the_documentation_parse(text: str, tmp_path: Path) -> None:
    name = yaml.safe_load(text)["recipe"]
    path = tmp_path / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    params = merged_params(PROJECT, path, [], None)
    assert params.registry.name == f"kd-{name}"


@pytest.mark.parametrize("path", sorted((PROJECT / "recipes").glob("*.yaml")), ids=lambda path: str(path.stem))
def test_recipes_of_the_project_parse(path: Path) -> None:
    assert merged_params(PROJECT, path, [], None).recipe == path.stem
