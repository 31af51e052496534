"""DVC leaves every mapping key called `size` or `nfiles` out of a stage's key, params included (dvc 3.67.1).

With DVC alone, a stage whose param `image.size` changes gets the output of the old size from the run-cache. So no key
of ours has such a name, and where users choose names as keys a digest of the whole mapping stands beside it.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel

from kd_core.config.params import Params
from kd_ops.base.settings import Settings
from kd_ops.resolving.resolve import resolve
from kd_ops.runs.objects import stage_key
from tests.helpers.recipes import bring

UNHASHED = {"size", "nfiles"}


def sections(section: type[BaseModel], seen: set[type[BaseModel]]) -> set[type[BaseModel]]:
    """A class of params and all classes that its fields name."""
    if section in seen:
        return seen
    seen.add(section)
    for field in section.model_fields.values():
        for found in classes(field.annotation):
            sections(found, seen)
    return seen


def classes(annotation: object) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {found for part in getattr(annotation, "__args__", ()) for found in classes(part)}


def test_a_key_does_not_see_such_names() -> None:
    fragments = [{"cmd": "x", "params": {"params.yaml": {"image": {"size": size}}}} for size in (1, 2)]
    assert stage_key(fragments[0], ["o"]) == stage_key(fragments[1], ["o"])


def test_no_field_of_params_has_such_a_name() -> None:
    found = sections(Params, set())
    assert len(found) > 15
    assert not {field for section in found for field in section.model_fields} & UNHASHED


def test_a_label_with_such_a_name_still_changes_the_key(settings: Settings, tmp_path: Path) -> None:
    recipe = bring(tmp_path / "own")
    pinned = []
    for ours in ("one", "two"):
        values = yaml.safe_load(recipe.read_text())
        values["teachers"]["mine"]["labels"] = {"size": ours, "other": "two" if ours == "one" else "one"}
        recipe.write_text(yaml.safe_dump(values))
        pinned.append(resolve(recipe, settings=settings).params()["resolved"]["teachers"]["mine"])
    assert pinned[0] != pinned[1]
