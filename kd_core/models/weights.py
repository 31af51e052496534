"""Where weights lie on this machine, and whether their files are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.packages import package_folder


def local_folder(address: str) -> Path:
    """Folder of a model: `local_path`, with a config.json in it. Raises InvalidDataError if that is missing."""
    folder = local_path(address)
    if not (folder / "config.json").is_file():
        raise InvalidDataError(f"{folder / 'config.json'}: missing; the folder is not a Hugging Face model")
    return folder


def local_path(address: str) -> Path:
    """Folder addressed as `pkg://package/folder` or as a local path, of a model or of a tokenizer alone.

    Raises ParamsError for a remote address (hub id, `s3://`, `models:/`), which must be fetched before, and for a
    package that is not installed or has no such folder; InvalidDataError if the folder is missing.
    """
    if (inside := package_folder(address, address)) is not None:
        return inside
    if "://" in address or address.startswith("models:/"):
        raise ParamsError(f"{address}: not on this machine; fetch it to a folder first and give that folder")
    folder = Path(address)
    if not folder.is_dir():
        raise InvalidDataError(f"{address}: no such folder; a hub id must be fetched first, a path must exist")
    return folder


def check_weights(folder: Path) -> list[Path]:
    """The folder's safetensors files, each with a whole header and all its bytes.

    Raises InvalidDataError naming the file that is damaged or cut short, or the folder that has none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InvalidDataError(f"{folder}: no *.safetensors file; other weight formats are not read")
    for file in files:
        _open(file)
    return files


def read_tensors(folder: Path) -> dict[str, Any]:
    """All tensors of the folder's safetensors files, by name. Raises InvalidDataError as `check_weights`."""
    from safetensors.torch import load_file

    tensors: dict[str, Any] = {}
    for file in check_weights(folder):
        tensors.update(load_file(file))
    return tensors


def _open(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise InvalidDataError(f"{file}: damaged or cut short ({error}); copy it again from its source") from None
