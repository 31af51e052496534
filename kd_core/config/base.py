"""What all parameter sections share: unknown keys are refused, values are frozen, errors name the key typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from kd_core.runtime.errors import ParamsError
from kd_core.runtime.names import NAME_PATTERN

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of params.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SectionType = TypeVar("SectionType", bound=Section)


def parse(model: type[SectionType], values: Any, where: str) -> SectionType:
    """Validate `values` as `model`.

    Raises ParamsError listing every wrong key by its dotted path below `where`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ParamsError(_explain(error, model, where, values)) from None


def _explain(error: ValidationError, model: type[Section], where: str, values: Any) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join([part for part in (where, *_typed(problem["loc"], values)) if part])
        if problem["type"] == "extra_forbidden":
            lines.append(f"{key}: unknown key{_suggestion(str(problem['loc'][-1]), model)}")
        elif problem["type"] == "missing":
            lines.append(f"{key}: missing; add it to params.yaml or the recipe")
        else:
            given = problem.get("input")  # of a whole section it would fill the screen
            shown = "" if isinstance(given, dict) else f" (got {given!r})"
            said = problem["msg"].removeprefix("Value error, ")
            lines.append(": ".join([part for part in (key, said) if part]) + shown)
    return "params: " + "; ".join(lines)


def _typed(loc: Sequence[int | str], values: Any) -> list[str]:
    """The parts of an error's place that a person typed: pydantic also names the branches of unions that it tried."""
    found: list[str] = []
    for part in loc:
        is_key = isinstance(values, Mapping) and part in values
        is_index = isinstance(values, list | tuple) and isinstance(part, int) and part < len(values)
        if is_key or is_index:
            found.append(str(part))
            values = values[part]
        elif part is loc[-1] and isinstance(values, Mapping) and part != "[key]":
            found.append(str(part))  # what is missing
    return found


def _suggestion(key: str, model: type[Section]) -> str:
    import difflib

    close = difflib.get_close_matches(key, _field_names(model), n=1)
    return f"; did you mean {close[0]!r}?" if close else "; remove it or correct its spelling"


def _field_names(model: type[BaseModel]) -> set[str]:
    names: set[str] = set()
    for name, field in model.model_fields.items():
        names.add(name)
        annotation = field.annotation
        for part in (annotation, *getattr(annotation, "__args__", ())):
            if isinstance(part, type) and issubclass(part, BaseModel):
                names |= _field_names(part)
    return names
