"""Finds the weights that a stage starts from: those pinned at the start of the run, fetched if they are remote."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.base import Context
from components.fetch import fetch_resolved
from kd_core.runtime.errors import ParamsError


def resolved(context: Context, key: str) -> Mapping[str, Any]:
    """The values pinned at the start of the run under `resolved.<key>`; empty for a params.yaml written by hand."""
    try:
        return dict(context.value(f"resolved.{key}") or {})
    except ParamsError:
        return {}


def base_folder(context: Context, address: str) -> Path:
    """The local folder of the student's base model."""
    from kd_core.models.weights import local_folder

    return local_folder(fetch_resolved({"address": address, **resolved(context, "student")}))
