"""Stops `kd gc` if it does not see everything that needs the store."""

from __future__ import annotations

import socket
from collections.abc import Collection
from datetime import datetime

from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import tracking_uri
from kd_ops.retention.marks import beating
from kd_ops.runs.notes import REGISTERED, RUNS, noted_registrations, noted_runs
from kd_ops.runs.runs import list_runs

_SHOWN = 3


def check_view(registered: Collection[str], settings: Settings, now: datetime) -> None:
    """Raises ParamsError if KD_RUNS_URI or the registry does not show everything that uses the store."""
    _check_runs(settings, now)
    if not registered and (notes := noted_registrations(settings.store_uri)):
        raise ParamsError(
            f"{tracking_uri(settings)} shows no registered version, but students of {len(notes)} runs in "
            f"{settings.store_uri} were registered; set MLFLOW_TRACKING_URI to the registry that has them, or, where "
            f"these versions are gone for good, delete {settings.store_uri}/{REGISTERED}"
        )


def _check_runs(settings: Settings, now: datetime) -> None:
    shown = list_runs(settings)
    uris, names = {run.uri for run in shown}, {run.id for run in shown}
    strangers = [f"{uri} ({RUNS}/{note})" for note, uri in noted_runs(settings.store_uri).items() if uri not in uris]
    strangers += [f"{name}, which is at work" for name in sorted(beating(settings.store_uri, now) - names)]
    if strangers:
        more = f" and {len(strangers) - _SHOWN} more" if len(strangers) > _SHOWN else ""
        raise ParamsError(
            f"{settings.store_uri} is used by runs that KD_RUNS_URI ({settings.runs_uri}, on {socket.gethostname()}) "
            f"does not show: {'; '.join(sorted(strangers)[:_SHOWN])}{more}. Set KD_RUNS_URI to the place that all "
            "machines share, or, where a run is gone for good, delete its file from the store"
        )
