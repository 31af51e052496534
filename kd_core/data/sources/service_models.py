"""Reads botocore's service models, from a folder or straight out of a wheel, which is never installed."""

from __future__ import annotations

import gzip
import importlib.util
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import InvalidDataError, ParamsError

_FILES = ("service-2.json", "service-2.json.gz")
_WHEEL_ROOT = "botocore/data/"
_TITLES = ("serviceId", "serviceAbbreviation", "serviceFullName")


@dataclass(frozen=True)
class ServiceModel:
    """One service's newest API version."""

    name: str
    """botocore's name of the service: `s3`, `cognito-idp`."""
    operations: dict[str, Any]
    shapes: dict[str, Any]
    titles: tuple[str, ...] = ()
    """What the documentation calls the service: `S3`, `Amazon S3`, `Amazon Simple Storage Service`."""


def installed_folder() -> Path:
    """Folder of the installed botocore's service models. Raises ParamsError if botocore is not installed."""
    spec = importlib.util.find_spec("botocore")
    if spec is None or not spec.submodule_search_locations:
        raise ParamsError("data source botocore, revision 'installed': botocore is not installed; name a version")
    return Path(next(iter(spec.submodule_search_locations))) / "data"


def read_services(location: Path, services: Sequence[str]) -> list[ServiceModel]:
    """The named services, in order of name.

    `location` is a folder `<service>/<api version>/service-2.json[.gz]`, or a botocore wheel. Raises InvalidDataError
    if it is neither, ParamsError naming the services that it does not have.
    """
    files = _in_wheel(location) if location.is_file() else _in_folder(location)
    newest: dict[str, str] = {}
    for name in files:
        service, version, _ = name.split("/")
        newest[service] = max(version, newest.get(service, ""))
    missing = sorted(set(services) - set(newest))
    if missing:
        raise ParamsError(f"data source botocore: no service {', '.join(missing)} in {location}; correct `services`")
    wanted = set(services)
    chosen = [name for name in sorted(files) if name.split("/")[0] in wanted and newest[name.split("/")[0]] in name]
    return _read_wheel(location, chosen) if location.is_file() else [_read(location / n, n) for n in chosen]


def _in_folder(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InvalidDataError(f"{folder}: no folder of service models; check `revision` of the botocore source")
    return [path.relative_to(folder).as_posix() for name in _FILES for path in folder.glob(f"*/*/{name}")]


def _in_wheel(wheel: Path) -> list[str]:
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name.removeprefix(_WHEEL_ROOT) for name in archive.namelist() if name.startswith(_WHEEL_ROOT)]
    except zipfile.BadZipFile:
        raise InvalidDataError(f"{wheel}: not a wheel (a zip file); delete it, then run again") from None
    return [name for name in names if name.count("/") == 2 and name.endswith(_FILES)]


def _read_wheel(wheel: Path, names: Sequence[str]) -> list[ServiceModel]:
    with zipfile.ZipFile(wheel) as archive:
        return [_model(archive.read(_WHEEL_ROOT + name), name, f"{wheel}:{name}") for name in names]


def _read(path: Path, name: str) -> ServiceModel:
    return _model(path.read_bytes(), name, str(path))


def _model(data: bytes, name: str, where: str) -> ServiceModel:
    try:
        content = json.loads(gzip.decompress(data) if name.endswith(".gz") else data)
        titles = tuple(str(content["metadata"][key]) for key in _TITLES if key in content.get("metadata", {}))
        return ServiceModel(name.split("/")[0], dict(content["operations"]), dict(content["shapes"]), titles)
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InvalidDataError(f"{where}: not a service model ({error!r})") from None
