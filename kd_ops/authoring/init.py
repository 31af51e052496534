"""`kd init`: looks at a user's file, asks what it cannot tell, and writes a recipe."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from rich.console import Console

from kd_core.data.profiling.words import Overview, Request, Roles
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.files import write_whole
from kd_core.runtime.names import check_name
from kd_core.tables.listing import is_pattern
from kd_ops.authoring.asking import answered
from kd_ops.authoring.looking import look
from kd_ops.authoring.recipe_text import Defaults, recipe_text
from kd_ops.authoring.telling import tell
from kd_ops.base.documents import from_yaml
from kd_ops.base.settings import Settings
from kd_ops.resolving.merge import merged_params

_GENERIC = re.compile(r"(train|training|test|data|dataset|rows|labelled|labeled|all)?")


@dataclass(frozen=True)
class Wishes:
    """What was asked for on the command line."""

    paths: Sequence[str]
    recipe: str | None
    said: Roles
    config: str | None
    yes: bool
    """Take what is proposed, without asking."""
    force: bool
    """Write over a recipe that exists."""


def init(wishes: Wishes, console: Console, settings: Settings) -> Path:
    """Write `recipes/NAME.yaml`; its path.

    Raises ParamsError for a recipe that exists and where somebody must be asked and nobody is there, and what the look
    at the data raises.
    """
    paths = [_absolute(path) for path in wishes.paths]
    name = check_name(wishes.recipe, "recipe") if wishes.recipe else recipe_name(paths[0])
    target = settings.project / "recipes" / f"{name}.yaml"
    _check_free(target, wishes.force)
    defaults = _defaults(settings)
    request = Request(
        paths=tuple(paths),
        base=defaults.base,
        said=wishes.said,
        config=wishes.config,
        guess=wishes.yes,
        min_accuracy=defaults.min_accuracy,
    )
    found = _looked(request, console, settings)
    source = _as_named_here(found.source, settings)
    text = recipe_text(name, wishes.paths, source, found, defaults)
    _check(text, name, settings)
    _check_free(target, wishes.force)
    write_whole(target, text.encode("utf-8"))
    tell(found, target, console)
    return target


def recipe_name(path: str) -> str:
    """A name for the recipe: the file's, or its folder's where the file is called `train` or the like."""
    parts = [part for part in reversed(PurePosixPath(path.removeprefix("s3://")).parts) if not is_pattern(part)]
    for part in parts:
        name = re.sub(r"[^a-z0-9]+", "_", part.split(".")[0].lower()).strip("_")
        if not _GENERIC.fullmatch(name):
            return name
    raise ParamsError(f"{path}: gives no name for a recipe; give one with --recipe")


def _looked(request: Request, console: Console, settings: Settings) -> Overview:
    found = look(request, settings)
    while found.questions:
        said = answered(found.questions, found.columns, request.said, console)
        request = request.model_copy(update={"said": said})
        found = look(request, settings)
    return found


def _absolute(path: str) -> str:
    """Where the file is, in any working folder. Raises InvalidDataError if it is not there."""
    if path.startswith("s3://"):
        return path
    found = Path(path).expanduser().absolute()
    if not found.exists() and not is_pattern(path):
        raise InvalidDataError(f"{path}: no such file or folder; correct the path")
    return str(found)


def _check_free(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise ParamsError(f"{target}: exists; choose another name with --recipe, or write over it with --force")


def _defaults(settings: Settings) -> Defaults:
    """What a recipe inherits and must fit to."""
    values = _read(settings.project / "params.yaml")
    pairs = settings.project / "recipes" / "match.yaml"
    return Defaults(
        base=str(values["student"]["base"]),
        teachers=tuple(values["finetune"]["teachers"]),
        min_accuracy=float(values["gate"]["min_accuracy"]),
        of_pairs={key: value for key, value in _read(pairs).items() if key in _STUDENT} if pairs.is_file() else {},
    )


_STUDENT = ("student", "pretrain", "finetune", "baseline")
"""Sections that say what student is trained, and how."""


def _read(path: Path) -> dict[str, Any]:
    return dict(from_yaml(path.read_bytes()))


def _as_named_here(source: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """The source with paths below the project as a recipe of any copy of it may name them."""

    def named(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [named(each) for each in value]
        if isinstance(value, dict):
            return {split: named(each) for split, each in value.items()}
        path = Path(value)
        return str(path.relative_to(settings.project)) if path.is_relative_to(settings.project) else value

    key = "path" if "path" in source else "name"
    return {**source, key: named(source[key])}


def _check(text: str, name: str, settings: Settings) -> None:
    """Raises ParamsError unless a run accepts the recipe."""
    with tempfile.TemporaryDirectory(prefix="kd-init-") as folder:
        path = Path(folder) / f"{name}.yaml"
        path.write_text(text, encoding="utf-8")
        merged_params(settings.project, path, [], None)
