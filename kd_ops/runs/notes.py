"""What a store remembers of who used it, for `kd gc`: runs, wherever their folders are, and registered runs.

`STORE_URI/ledgers/runs/HASH-RUN.json` says where a run's folder is, `ledgers/registered/HASH-RUN.json` that its student
became a registered version. HASH is of the run's address: two machines may call different runs alike.
"""

from __future__ import annotations

import json
import socket

from kd_core.runtime.files import to_json
from kd_core.runtime.fingerprint import of_value
from kd_core.runtime.storage import Storage
from kd_ops.runs.runs import Run

RUNS = "ledgers/runs"
REGISTERED = "ledgers/registered"


def note_run(run: Run, store_uri: str) -> None:
    """Say that the run uses the store."""
    Storage(store_uri).create(_name(RUNS, run), to_json({"uri": run.uri, "host": socket.gethostname()}))


def note_registered(run: Run, model: str, version: str, store_uri: str) -> None:
    """Say that the run's student is a registered version."""
    Storage(store_uri).create(_name(REGISTERED, run), to_json({"model": model, "version": version}))


def forget_run(run: Run, store_uri: str) -> None:
    """The run is deleted."""
    for folder in (RUNS, REGISTERED):
        Storage(store_uri).delete(_name(folder, run))


def noted_runs(store_uri: str) -> dict[str, str]:
    """Where each run that uses the store has its folder; by the name of the note."""
    store = Storage(f"{store_uri}/{RUNS}")
    notes = {name: json.loads(store.read(name)) for name in store.list()}
    return {name: str(note["uri"]) for name, note in notes.items()}


def noted_registrations(store_uri: str) -> list[str]:
    """The notes on registered runs."""
    return Storage(store_uri).list(REGISTERED)


def _name(folder: str, run: Run) -> str:
    return f"{folder}/{of_value(run.uri)[:16]}-{run.id}.json"
