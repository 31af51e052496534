"""What is logged of a run, in the forms and sizes that MLflow takes; no secret of the environment gets through."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kd_ops.base.redaction import redact

PARAM_CHARACTERS = 500
"""Longest value that older servers take; the whole params.yaml is logged as a file."""
KEY_CHARACTERS = 250

_FORBIDDEN = re.compile(r"[^\w\-. /]")


def flatten(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted key → leaf, lists of plain values being leaves."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(values, list | tuple) and any(isinstance(item, Mapping) for item in values):
        for index, item in enumerate(values):
            yield from flatten(item, f"{prefix}.{index}")
    else:
        yield prefix, values


def params(values: Mapping[str, Any]) -> dict[str, str]:
    """Resolved params as MLflow params; a long value is cut and says so."""
    return {_name(key): _cut(redact(_text(value))) for key, value in flatten(values)}


def metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a metrics document under `/`-separated names; intervals become `…/0` and `…/1`."""
    found = {}
    for key, value in flatten(values):
        numbers = enumerate(value) if isinstance(value, list) else [(None, value)]
        for index, number in numbers:
            if isinstance(number, int | float) and not isinstance(number, bool):
                found[metric_name(key if index is None else f"{key}.{index}")] = float(number)
    return found


def speeds(measured: Mapping[str, Any]) -> dict[str, float]:
    """Metrics of a measurement: rows go under their model and batch, not under their place in the list."""
    rows = [*measured.get("rows", []), *measured.get("curve", [])]
    named = {f"{row['model']}.batch_{row['batch']}": _without(row, "model", "batch") for row in rows}
    return metrics(named)


def metric_name(key: str) -> str:
    """A dotted key with `/` between its parts; dots inside numbers (a threshold) stay."""
    return _name(re.sub(r"(?<!\d)\.|\.(?!\d)", "/", key.replace(":", "/")))


def _name(key: str) -> str:
    return _FORBIDDEN.sub("_", key.replace("@", "_at_"))[:KEY_CHARACTERS]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str) -> str:
    if len(text) <= PARAM_CHARACTERS:
        return text
    end = f"… ({len(text)} characters)"
    return text[: PARAM_CHARACTERS - len(end)] + end


def _without(row: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in keys}
