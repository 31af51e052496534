"""Where things are: read from the environment (KD_*), with an embedded default below the project."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kd_core.runtime.errors import ParamsError

_UNUSABLE = re.compile(r"[?%\x00-\x1f\x7f]|::")

PROJECT = Path(__file__).resolve().parents[2]


def absolute(uri: str) -> str:
    """A URL as it is; a local path (or `file://` URL) absolute, so that it holds in any working folder."""
    uri = uri.removeprefix("file://").rstrip("/") or "/"
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def is_local(uri: str) -> bool:
    """Whether `uri` is a path on this machine."""
    return "://" not in uri


class Settings(BaseSettings):
    """One instance a process. Every URI may be a local folder or `s3://…`, except the cache and the home."""

    model_config = SettingsConfigDict(env_prefix="KD_", frozen=True)

    project: Path = PROJECT
    """Folder of dvc.yaml and the code."""
    home: Path = Path()
    """Everything that this machine keeps; default `<project>/.kd`."""
    store_uri: str = ""
    """Shared by all machines: DVC remote, score store, ledgers, provenance; default `<home>/store`."""
    runs_uri: str = ""
    """Run folders; default `<home>/runs`."""
    cache_dir: Path = Path()
    """DVC cache of this machine; default `<home>/cache`."""
    keep_unregistered_days: Annotated[float, Field(ge=0)] = 14.0
    """How long `kd gc` keeps a run that is not registered, counted from the last that it did."""

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: dict[str, object]) -> dict[str, object]:
        project = Path(absolute(str(values.get("project") or PROJECT)))
        home = Path(absolute(str(values.get("home") or project / ".kd")))
        uris = {
            name: absolute(str(values.get(name) or home / name.partition("_")[0]))
            for name in ("store_uri", "runs_uri", "cache_dir")
        }
        for name, place in {"home": str(home), **uris}.items():
            _check_place(name, place)
        return {**values, "project": project, "home": home, **uris, "cache_dir": Path(uris["cache_dir"])}


def _check_place(name: str, place: str) -> None:
    found = _UNUSABLE.search(place)
    if found or {"'", '"'} <= set(place):
        odd = found[0] if found else "' and \""
        raise ParamsError(
            f"KD_{name.upper()}={place!r}: {odd!r} means something in settings of DVC, MLflow or Airflow, which would "
            "use another place; choose a path without it"
        )
