"""Marks what stays: the kept runs, and the names in store and cache that they need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.runs.objects import Objects, RunCache, object_name
from kd_ops.runs.results import read_result
from kd_ops.runs.runs import Run, list_runs
from kd_ops.stages import code_snapshot, inputs
from kd_ops.stages.keys import out_hashes

GRACE = timedelta(days=1)
"""Longest silence of a living owner, and longest time of a file in the store before a run records that it needs it."""
STATE = "state"
ENTRIES = "dvc/runs"

Promised = dict[str, set[str]]
"""Key → objects of its run-cache entry."""


@dataclass(frozen=True)
class Marks:
    """The kept runs and what they need."""

    kept: frozenset[str]
    """Names of the runs."""
    gone: tuple[Run, ...]
    """The other runs."""
    needed: frozenset[str]
    """Names in the store; the name of a folder stands for everything in it."""

    def needs(self, name: str) -> bool:
        """Whether a file of the store, or a folder that contains it, is needed."""
        parts = name.split("/")
        return any("/".join(parts[:count]) in self.needed for count in range(1, len(parts) + 1))


def mark(keep: int, registered: Iterable[str], settings: Settings, now: datetime, promised: Promised) -> Marks:
    """What stays if the newest `keep` runs and those named `registered` are kept.

    Runs that give signs of life are also kept, and runs that are not registered yet and did something in the last days.
    `promised` holds entries that were in the run-cache at a time when a run may have read them.
    """
    runs, named = list_runs(settings), {*registered, *beating(settings.store_uri, now)}
    wait = timedelta(days=settings.keep_unregistered_days)
    kept = [run for age, run in enumerate(runs) if age < keep or run.id in named or _waits(run, now, wait)]
    ids = frozenset(run.id for run in kept)
    needed = frozenset(name for run in kept if run.exists() for name in _needed(run, settings, promised))
    return Marks(ids, tuple(run for run in runs if run.id not in ids), needed)


def beating(store_uri: str, now: datetime) -> set[str]:
    """Names of the runs whose stages gave a sign of life within the grace period, by the store's clock."""
    signs = Storage(store_uri).statuses(STATE)
    young = [name for name, status in signs.items() if now - status.modified <= GRACE]
    return {name.rsplit("/", 1)[1].removesuffix(".json") for name in young if name.endswith(".json") and "/" in name}


def promises(names: Iterable[str], settings: Settings) -> Promised:
    """The objects that these run-cache entries lead to."""
    cache, objects = RunCache(settings), Objects(settings)
    keys = {name.split("/")[3] for name in names if name.startswith(f"{ENTRIES}/")}
    return {key: _members(out_hashes(entry).values(), objects) for key in keys if (entry := cache.entry(key))}


def _waits(run: Run, now: datetime, wait: timedelta) -> bool:
    """Whether the run may still be resumed or registered, or may have been registered since the list was made."""
    silent = now - max((status.modified for status in run.storage.statuses().values()), default=now)
    return silent <= GRACE or (silent <= wait and not read_result(run).get("model"))


def _needed(run: Run, settings: Settings, promised: Promised) -> set[str]:
    """Names of the files and folders in the store that a kept run needs."""
    records = run.stages()
    keys = {record.key for record in records.values() if record.key}
    needed = {f"{ENTRIES}/{key[:2]}/{key}" for key in keys} | {f"{STATE}/{key}/{run.id}.json" for key in keys}
    needed |= {address.rsplit("/", 1)[0] for address in inputs.mentioned(run.params())}
    needed |= code_snapshot.names_of(run)
    return needed | {f"dvc/{object_name(md5)}" for md5 in _outputs(run, settings, promised)}


def _outputs(run: Run, settings: Settings, promised: Promised) -> set[str]:
    """Objects of the outputs that the run has, or is about to take over from the run-cache."""
    objects, cache, locks = Objects(settings), RunCache(settings), run.locks()
    found = _members((md5 for fragment in locks.values() for md5 in out_hashes(fragment).values()), objects)
    for stage, record in run.stages().items():
        if record.key and stage not in locks:
            entry = cache.entry(record.key)
            found |= _members(out_hashes(entry).values(), objects) if entry else promised.get(record.key, set())
    return found


def _members(hashes: Iterable[str], objects: Objects) -> set[str]:
    found: set[str] = set()
    for md5 in hashes:
        try:
            found |= objects.members(md5)
        except FileNotFoundError:  # already lost: its list can be neither read nor restored
            found.add(md5)
    return found
