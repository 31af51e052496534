"""The libraries whose version is part of stages' keys: recorded when a run starts, checked by the worker that computes.

A key that says torch 2.13 must not be given to what torch 2.12 computed, since every later run would be served it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from kd_core.runtime.errors import InvalidDataError

VERSIONS = {
    "data": ("pandas", "pyarrow", "datasets", "great-expectations", "botocore"),
    "training": ("torch", "transformers", "tokenizers", "accelerate", "safetensors", "numpy", "scikit-learn"),
    "serving": ("onnx", "onnxscript", "onnxruntime"),
    "report": ("matplotlib", "jinja2"),
}
"""Group, as stages list it → libraries."""

_KEY = "resolved.versions."


def installed_versions() -> dict[str, dict[str, str]]:
    """The versions of this environment, by group."""
    return {group: {name: release(name) for name in names} for group, names in VERSIONS.items()}


def release(name: str) -> str:
    """An installed library's version without the build: CPU and CUDA builds of a release share results.

    Raises PackageNotFoundError.
    """
    return version(name).partition("+")[0]


def check_versions(params: Mapping[str, Any]) -> None:
    """Raises InvalidDataError naming the libraries that differ here from those in a stage's params (key → value).

    What is in the cache already needs no such check.
    """
    wanted = {name: number for key, group in params.items() if key.startswith(_KEY) for name, number in group.items()}
    found = {name: _release_or_none(name) for name in wanted}
    odd = [
        f"{name} {found[name] or 'missing'} instead of {wanted[name]}" for name in wanted if found[name] != wanted[name]
    ]
    if odd:
        raise InvalidDataError(
            f"this worker has {', '.join(odd)}, which the run was started with; install requirements.lock here, or "
            "start a new run with the versions of the workers"
        )


def _release_or_none(name: str) -> str | None:
    try:
        return release(name)
    except PackageNotFoundError:
        return None
