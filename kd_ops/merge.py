"""params.yaml + recipe + overrides → validated params. Nothing is written here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from kd_core.config.base import check_name, parse
from kd_core.config.params import Params
from kd_core.runtime.errors import ParamsError


def recipe_path(recipe: str | Path | None, project: Path) -> Path | None:
    """File of a recipe: a path, or a name in recipes/; None takes the one that params.yaml names, if there is one."""
    if recipe is None:
        name = _read(project / "params.yaml").get("recipe")
        path = project / "recipes" / f"{name}.yaml"
        return path if isinstance(name, str) and path.is_file() else None
    if str(recipe).endswith((".yaml", ".yml")):
        return Path(recipe).expanduser()
    check_name(str(recipe), "recipe")
    path = project / "recipes" / f"{recipe}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml"))) or "none"
        raise ParamsError(f"recipe {recipe!r}: there is no {path}; there are {known}")
    return path


def merged_params(project: Path, recipe: Path | None, overrides: Sequence[str], revision: str | None) -> Params:
    """The whole params, defaults filled in. Raises ParamsError naming every wrong key.

    Teachers that no stage names are left out: a recipe with teachers of its own does not train the default ones.
    """
    values = _read(project / "params.yaml")
    if recipe is not None:
        values = merge(values, _recipe(recipe))
    for override in overrides:
        values = merge(values, _checked(_override(override)))
    if "resolved" in values:
        raise ParamsError("resolved: written at the start of a run, never by hand; remove it")
    if revision is not None:
        _set_revision(values, revision)
    params = parse(Params, values, "")
    named = _named_teachers(params)
    return params.model_copy(update={"teachers": {n: t for n, t in params.teachers.items() if n in named}})


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


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` laid over `base`, mappings key by key; a mapping of another `kind` replaces the former one whole."""
    result = dict(base)
    for key, value in over.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merge(before, value) if both and _same_kind(before, value) else value  # type: ignore[arg-type]
    return result


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
