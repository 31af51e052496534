"""Folders inside installed Python packages, addressed as `pkg://package/folder`."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

from kd_core.runtime.errors import ParamsError

_ADDRESS = re.compile(r"pkg://([A-Za-z0-9_]+)/(.+)")


def package_folder(address: str, where: str) -> Path | None:
    """The folder at `pkg://package/folder`; None for any other address.

    :param where: what errors begin with: the address, or the params key that has it
    :raises ParamsError: the package is not installed, or has no such folder
    """
    match = _ADDRESS.fullmatch(address)
    if match is None:
        return None
    package, inside = match[1], match[2]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ParamsError(f"{where}: the Python package {package!r} is not installed; pip install it")
    root = Path(next(iter(spec.submodule_search_locations))).resolve()
    folder = (root / inside).resolve()
    if not folder.is_relative_to(root) or not folder.is_dir():
        raise ParamsError(f"{where}: the package {package!r} has no folder {inside!r}")
    return folder
