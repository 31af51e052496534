"""Which split ledger a run starts from: what earlier runs of its recipe assigned, so that train never becomes test.

`STORE_URI/ledgers/RECIPE-ROLE/000001.json`, … are the states of this memory, the newest one valid: the ledger that each
data set first started from, and one ledger of all runs so far. A run on data seen before starts from where those data
started, so that its ingest is a HIT; a run on other data starts from what all runs left.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any, get_args

from kd_core.config.data import Role
from kd_core.data.splits.assignment import TRAINING_FIRST
from kd_core.data.splits.places import FOLDER, ledger_name
from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.runtime.files import to_json
from kd_core.runtime.fingerprint import of_value
from kd_core.runtime.storage import Storage
from kd_core.tasks import columns
from kd_ops.base.settings import Settings
from kd_ops.runs.objects import Objects
from kd_ops.runs.runs import Run
from kd_ops.stages.keys import out_hashes

ROLES: tuple[Role, ...] = get_args(Role)


def starting_ledger(recipe: str, role: str, data_key: str, settings: Settings) -> str | None:
    """sha256 of the ledger that a run on the data `data_key` starts from; None for a recipe's first data."""
    _, state = _newest(Storage(settings.store_uri), f"{recipe}-{role}")
    ledger: str | None = state["starts"].get(data_key, state["ledger"])
    return ledger


def data_key(data: dict[str, Any], source: dict[str, Any]) -> str:
    """Hash of what decides one role's rows and their splits, given the ledger: params and resolved source ids."""
    task, origin = data["task"] and {key: data["task"][key] for key in ("labels", "pair")}, dict(data["source"])
    if data["task"] and columns.of(data["task"]["kind"]).LISTED:
        task["kind"] = data["task"]["kind"]
    else:
        origin.pop("label_separator", None)  # nothing is separated
    similarity = data["validation"]["duplicate_similarity"]
    ids = {key: value for key, value in source.items() if key != "ledger"}
    parts = {"source": origin, "split": data["split"], "task": task, "similarity": similarity, "ids": ids}
    return of_value(parts)


def publish_ledgers(run: Run, settings: Settings | None = None) -> None:
    """Remember the ledgers of a run that has trained a student.

    Raises TryAgainError if its ingest has not ended, InvalidDataError if the store has lost what it wrote.
    """
    settings = settings or Settings()
    store, objects, params = Storage(settings.store_uri), Objects(settings), run.params()
    for role in ROLES:
        fragment = run.lock(f"ingest@{role}")
        if fragment is None:
            raise TryAgainError(f"run {run.id}: ingest@{role} has not ended; its ledger cannot be kept")
        folder = out_hashes(fragment)[f"data/raw/{role}"]
        try:
            written = objects.read(objects.listing(folder)["ledger.parquet"])
        except FileNotFoundError:
            raise InvalidDataError(
                f"run {run.id}: the store has lost the ledger that ingest@{role} wrote; start a new run"
            ) from None
        ledger = _keep(store, written)
        source = params["resolved"]["data"][role]
        key = data_key(params["data"][role], source)
        _publish(store, f"{params['recipe']}-{role}", run.id, key, source["ledger"], ledger)


def _publish(store: Storage, name: str, run: str, key: str, before: str | None, after: str) -> None:
    """Add a state that knows `key` and the ledger `after`; of two writers at once the second one starts over."""
    while True:
        number, state = _newest(store, name)
        starts = {key: before, **state["starts"]}
        ledger = _joined(store, state["ledger"], before, after)
        if (starts, ledger) == (state["starts"], state["ledger"]):
            return
        document = to_json({"run": run, "starts": starts, "ledger": ledger})
        if store.create(f"{FOLDER}/{name}/{number + 1:06d}.json", document):
            return


def _newest(store: Storage, name: str) -> tuple[int, dict[str, Any]]:
    """Number and content of the newest state; 0 and an empty one before the first."""
    names = store.list(f"{FOLDER}/{name}")
    if not names:
        return 0, {"starts": {}, "ledger": None}
    return int(names[-1].removesuffix(".json")), json.loads(store.read(f"{FOLDER}/{name}/{names[-1]}"))


def _joined(store: Storage, current: str | None, before: str | None, after: str) -> str:
    """sha256 of a ledger of all that `current` and `after` hold, `after` having started from `before`.

    Where they differ about a text, the split nearer to training wins: what was ever trained on is never tested on.
    """
    if current in (None, before, after):
        return after
    from kd_core.data.splits.ledger import Ledger  # imports pyarrow, which most runs start without

    old, new = (Ledger.from_bytes(store.read(ledger_name(sha256)), ledger_name(sha256)) for sha256 in (current, after))
    splits = dict(old.splits)
    for words, split in new.splits.items():
        splits[words] = min(split, splits.get(words, split), key=TRAINING_FIRST.index)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "ledger.parquet"
        Ledger(splits, new.revision, new.label_shares).write(path)
        return _keep(store, path.read_bytes())


def _keep(store: Storage, ledger: bytes) -> str:
    sha256 = hashlib.sha256(ledger).hexdigest()
    store.write(ledger_name(sha256), ledger)
    return sha256
