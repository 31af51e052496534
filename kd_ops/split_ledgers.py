"""Which split ledger a run starts from: what earlier runs of its recipe assigned, so that train never becomes test.

`STORE_URI/ledgers/RECIPE-ROLE.json` points to the ledger after the last successful run and to the one before it. A run
on the same data starts from where that run started, so that its ingest is a HIT; a run on other data starts from what
that run left.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, get_args

from kd_core.config.data import Role
from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.fingerprint import of_value
from kd_core.runtime.storage import Storage
from kd_ops.keys import out_hashes
from kd_ops.objects import Objects
from kd_ops.runs import Run
from kd_ops.settings import Settings

FOLDER = "ledgers"
ROLES: tuple[Role, ...] = get_args(Role)


def starting_ledger(recipe: str, role: str, data_key: str, settings: Settings) -> str | None:
    """sha256 of the ledger that a run on the data `data_key` starts from; None for a recipe's first data."""
    pointer = _pointer(recipe, role, settings)
    if pointer is None:
        return None
    ledger = pointer["ledger_in"] if pointer["data_key"] == data_key else pointer["ledger_out"]
    return None if ledger is None else str(ledger)


def data_key(data: dict[str, Any], source: dict[str, Any]) -> str:
    """Hash of one role's data params and resolved source ids (the ledger left out)."""
    return of_value({"data": data, "source": {key: value for key, value in source.items() if key != "ledger"}})


def publish_ledgers(run: Run, settings: Settings | None = None) -> None:
    """Keep the ledgers of a successful run and point to them. Raises TryAgainError if its ingest has not ended."""
    settings = settings or Settings()
    store, objects, params = Storage(settings.store_uri), Objects(settings), run.params()
    for role in ROLES:
        fragment = run.lock(f"ingest@{role}")
        if fragment is None:
            raise TryAgainError(f"run {run.id}: ingest@{role} has not ended; its ledger cannot be kept")
        folder = out_hashes(fragment)[f"data/raw/{role}"]
        ledger = objects.read(objects.listing(folder)["ledger.parquet"])
        name = hashlib.sha256(ledger).hexdigest()
        store.write(f"{FOLDER}/{name}.parquet", ledger)
        source = params["resolved"]["data"][role]
        pointer = {
            "run": run.id,
            "data_key": data_key(params["data"][role], source),
            "ledger_in": source["ledger"],
            "ledger_out": name,
        }
        store.write(f"{FOLDER}/{params['recipe']}-{role}.json", json.dumps(pointer, indent=1).encode())


def _pointer(recipe: str, role: str, settings: Settings) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(Storage(settings.store_uri).read(f"{FOLDER}/{recipe}-{role}.json"))
    except FileNotFoundError:
        return None
    return content
