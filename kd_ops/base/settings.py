"""Where things are: read from the environment (KD_*), with an embedded default below the project."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True, init=False)
class Settings:
    """One instance a process. Every URI may be a local folder or `s3://…`, except the cache and the home.

    What is not given is taken from the environment (`KD_HOME` for `home`), then from the defaults.
    """

    project: Path
    """Folder of dvc.yaml and the code."""
    home: Path
    """Everything that this machine keeps; default `<project>/.kd`."""
    store_uri: str
    """Shared by all machines: DVC remote, score store, ledgers, provenance; default `<home>/store`."""
    runs_uri: str
    """Run folders; default `<home>/runs`."""
    cache_dir: Path
    """DVC cache of this machine; default `<home>/cache`."""
    keep_unregistered_days: float
    """How long `kd gc` keeps a run that is not registered, counted from the last that it did; default 14."""

    def __init__(
        self,
        project: Path | None = None,
        home: Path | None = None,
        store_uri: str | None = None,
        runs_uri: str | None = None,
        cache_dir: Path | None = None,
        keep_unregistered_days: float | None = None,
    ) -> None:
        """Raises ParamsError for a place that some library would misread, and for a number of days below 0."""
        project = Path(_place("project", project, PROJECT))
        home = Path(_place("home", home, project / ".kd"))
        values = {
            "project": project,
            "home": home,
            "store_uri": _place("store_uri", store_uri, home / "store"),
            "runs_uri": _place("runs_uri", runs_uri, home / "runs"),
            "cache_dir": Path(_place("cache_dir", cache_dir, home / "cache")),
            "keep_unregistered_days": _days(keep_unregistered_days),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)


def _place(name: str, given: Path | str | None, default: Path) -> str:
    place = absolute(str(given or os.environ.get(f"KD_{name.upper()}") or default))
    if name != "project":
        _check_place(name, place)
    return place


def _days(given: float | None) -> float:
    value = given if given is not None else os.environ.get("KD_KEEP_UNREGISTERED_DAYS") or 14.0
    try:
        days = float(value)
    except ValueError:
        days = -1.0
    if not days >= 0:
        raise ParamsError(f"KD_KEEP_UNREGISTERED_DAYS={value!r}: give a number of days, 0 or more")
    return days


def _check_place(name: str, place: str) -> None:
    found = _UNUSABLE.search(place)
    if found or {"'", '"'} <= set(place):
        odd = found[0] if found else "' and \""
        raise ParamsError(
            f"KD_{name.upper()}={place!r}: {odd!r} means something in settings of DVC, MLflow or Airflow, which would "
            "use another place; choose a path without it"
        )
