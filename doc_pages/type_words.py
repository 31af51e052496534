"""The type of a parameter in words: `Annotated[float, Field(ge=0, le=1)]` is "number ≥ 0 and ≤ 1"."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kd_core.runtime.names import NAME_PATTERN

WORDS: dict[object, str] = {
    int: "whole number",
    float: "number",
    bool: "true or false",
    str: "text",
    type(None): "null",
    typing.Any: "anything",
}
BOUNDS = {"ge": "≥ {:g}", "gt": "> {:g}", "le": "≤ {:g}", "lt": "< {:g}", "min_length": "(at least {})"}
BOUNDS["pattern"] = "like `{}`"
NAME = BOUNDS["pattern"].format(NAME_PATTERN)


def in_words(annotation: object, metadata: Iterable[object] = ()) -> str:
    """The type and its bounds, as Markdown. Raises KeyError for a type that WORDS lacks."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return in_words(parts[0], parts[1:])
    bounds = list(_bounds(metadata))
    return "name" if NAME in bounds else " ".join([_plain(annotation, origin, parts), " and ".join(bounds)]).strip()


def _plain(annotation: object, origin: object, parts: tuple[typing.Any, ...]) -> str:
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(dict.fromkeys(map(in_words, parts)))
    if origin is tuple:
        return f"list of {in_words(parts[0])}"
    if origin is dict:
        return f"{in_words(parts[0])} → {in_words(parts[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    return WORDS[annotation]


def _bounds(metadata: Iterable[object]) -> Iterator[str]:
    for item in metadata:
        if isinstance(item, FieldInfo):
            yield from _bounds(item.metadata)
        for bound, words in BOUNDS.items():
            value = getattr(item, bound, None)
            if value is not None:
                yield words.format(value)
