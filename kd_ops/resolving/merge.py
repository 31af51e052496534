"""params.yaml + recipe + variants + overrides → validated params. Nothing is written here.

A variant (recipes/variants/NAME.yaml) is laid over any recipe: the baselines that distillation is compared with, by
other params of the same stages. It may say `teachers: 2` for the first two of the recipe's list, and
`live_teacher: first` for the first pre-training teacher.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kd_core.config.base import parse
from kd_core.config.params import Params
from kd_core.runtime.errors import ParamsError
from kd_core.runtime.names import check_name

FIRST = "first"
"""Stands for the first pre-training teacher; therefore no teacher's name."""


def recipe_path(recipe: str | Path | None, project: Path) -> Path | None:
    """File of a recipe: a path, or a name in recipes/; None takes the one that params.yaml names, if there is one."""
    if recipe is None:
        name = _read(project / "params.yaml").get("recipe")
        path = project / "recipes" / f"{name}.yaml"
        return path if isinstance(name, str) and path.is_file() else None
    if str(recipe).endswith((".yaml", ".yml")):
        return Path(recipe).expanduser()
    check_name(str(recipe), "recipe")
    return _named_file(project / "recipes", recipe, "recipe")


def variant_path(variant: str, project: Path) -> Path:
    """File of a variant. Raises ParamsError listing those that there are."""
    check_name(variant, "variant")
    return _named_file(project / "recipes" / "variants", variant, "variant")


def _named_file(folder: Path, name: str | Path, what: str) -> Path:
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
        raise ParamsError(f"{what} {name!r}: there is no {path}; there are {known}")
    return path


def merged_params(
    project: Path,
    recipe: Path | None,
    overrides: Sequence[str],
    revision: str | None,
    variants: Sequence[str] = (),
) -> Params:
    """The whole params, defaults filled in. Raises ParamsError naming every wrong key.

    Teachers that no stage names are left out: a recipe with teachers of its own does not train the default ones. A
    variant leaves none out: its student may learn from fewer, and is compared with all that the recipe has. Where no
    stage names any, all that are declared are what the student is compared with. A variant's students are registered
    under a name of their own (`kd-route-mkd`): a baseline is never the recipe's champion.
    """
    params = _params(project, recipe, overrides, revision, variants)
    named = _named_teachers(params)
    if variants:
        named |= _named_teachers(_params(project, recipe, overrides, revision, ()))
    kept = {name: teacher for name, teacher in params.teachers.items() if name in named}
    registry = params.registry.model_copy(update={"name": "-".join([params.registry.name, *variants])})
    return params.model_copy(update={"teachers": kept or params.teachers, "registry": registry})


def _params(
    project: Path, recipe: Path | None, overrides: Sequence[str], revision: str | None, variants: Sequence[str]
) -> Params:
    values = _read(project / "params.yaml")
    if recipe is not None:
        values = merge(values, _recipe(recipe))
    for name in variants:
        values = merge(values, _read(variant_path(name, project)))
    for override in overrides:
        values = merge(values, _checked(_override(override)))
    if "resolved" in values:
        raise ParamsError("resolved: written at the start of a run, never by hand; remove it")
    if revision is not None:
        _set_revision(values, revision)
    _name_first_teacher(values)
    return parse(Params, values, "")


def _recipe(path: Path) -> dict[str, Any]:
    """A recipe's values. Ledgers, runs and the registered model go by its name, so a copy must not keep the old one."""
    values = _read(path)
    if values.setdefault("recipe", path.stem) != path.stem:
        raise ParamsError(
            f"{path}: says recipe: {values['recipe']}, but a recipe is called as its file; write recipe: {path.stem}, "
            "or rename the file"
        )
    return values


def _checked(override: dict[str, Any]) -> dict[str, Any]:
    """Raises ParamsError for what a single run may not change."""
    if "gate" in override:
        raise ParamsError(
            "gate: what a model must prove is not overridden for a single run; change it in the recipe or params.yaml"
        )
    if "recipe" in override:
        raise ParamsError("recipe: a recipe is called as its file; copy the file to start another one")
    return override


def _named_teachers(params: Params) -> set[str]:
    return {*params.pretrain.teachers, *params.finetune.teachers, params.pretrain.live_teacher}


def _name_first_teacher(values: dict[str, Any]) -> None:
    """`pretrain.live_teacher: first` → the name: of stage one's teachers, else stage two's, else of all there are."""
    stage, second = values.get("pretrain"), values.get("finetune")
    if not isinstance(stage, dict) or stage.get("live_teacher") != FIRST:
        return
    names = stage.get("teachers") or (isinstance(second, dict) and second.get("teachers")) or values.get("teachers")
    if not names:
        raise ParamsError(f"pretrain.live_teacher: {FIRST}, but there are no teachers; name one, or write `none`")
    values["pretrain"] = {**stage, "live_teacher": next(iter(names))}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mappings key by key; a mapping of another `kind` replaces the former one whole.

    `teachers: N` over a list of teachers takes its first N. Raises ParamsError if there are fewer.
    """
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        if isinstance(before, Mapping) and isinstance(value, Mapping) and _same_kind(before, value):
            result[key] = merge(before, value)
        elif key == "teachers" and isinstance(before, list) and type(value) is int:
            result[key] = _first(before, value)
        else:
            result[key] = value
    return result


def _first(teachers: list[Any], count: int) -> list[Any]:
    if not 0 <= count <= len(teachers):
        known = ", ".join(map(str, teachers)) or "none"
        raise ParamsError(f"teachers: the first {count} are asked for, but the recipe names {known}")
    return teachers[:count]


def _same_kind(before: Any, value: Any) -> bool:
    return "kind" not in before or "kind" not in value or before["kind"] == value["kind"]


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read ({error.strerror}); correct the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParamsError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: must hold a mapping of sections")
    return values


def _override(text: str) -> dict[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not all(key.split(".")):
        raise ParamsError(f"override {text!r}: write key=value, the key with dots, e.g. finetune.alpha=0.5")
    try:
        result: Any = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ParamsError(f"override {text!r}: the value is not valid YAML: {error}") from None
    for part in reversed(key.split(".")):
        result = {part: result}
    return dict(result)


def _set_revision(values: dict[str, Any], revision: str) -> None:
    data = values.get("data")
    sources = [role.get("source") for role in data.values() if isinstance(role, dict)] if isinstance(data, dict) else []
    versioned = [s for s in sources if isinstance(s, dict) and s.get("kind") in ("botocore", "huggingface")]
    if not versioned:
        raise ParamsError(f"revision {revision!r}: none of the data sources has revisions; leave it out")
    for source in versioned:
        source["revision"] = revision
