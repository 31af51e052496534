"""The small files of a model that a run's params name, read before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

Read = Callable[[Mapping[str, Any], str], bytes | None]
"""(resolved record of a model, file name) → its content; None if it has no such file."""


def config_of(record: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """config.json of a model's encoder; empty where there is none that can be read."""
    values = as_mapping(read(record, "config.json"))
    encoder = values.get("encoder")  # a distilled student's stands around its encoder's
    return encoder if isinstance(encoder, dict) and encoder else values


def as_mapping(document: bytes | None) -> dict[str, Any]:
    """A JSON object; empty for what is none."""
    try:
        value = json.loads(document or b"{}")
    except ValueError:  # `teach` names a damaged file
        return {}
    return value if isinstance(value, dict) else {}
