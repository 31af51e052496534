"""Finds and deletes what nothing needs any more: mark what kept runs use, sweep the rest of store and cache.

Kept are the runs of registered model versions, the newest ones, and unfinished ones of the last week; with each run its
outputs, the run-cache entries, the local inputs and the code that lead to them. Scores, ledgers and provenance always
stay. What is younger than a day is not touched, since a task may just be about to publish it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console

from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import connect
from kd_ops.retention import gc_machine
from kd_ops.runs.objects import Objects, object_name
from kd_ops.runs.runs import Run, list_runs
from kd_ops.stages import code_snapshot, inputs
from kd_ops.stages.keys import out_hashes

GRACE = timedelta(days=1)
IN_FLIGHT = timedelta(days=7)
LAST_STAGE = "report"
SWEPT = ("dvc/files", "dvc/runs", inputs.FOLDER, code_snapshot.FOLDER, "state")


@dataclass(frozen=True)
class Garbage:
    """What may go."""

    runs: tuple[Run, ...]
    files: tuple[str, ...]
    """Names in the store."""
    size: int
    """Bytes of `files`."""
    local: dict[Path, int]
    """Files and folders of this machine → bytes."""


def registered_runs(settings: Settings) -> set[str]:
    """Names of the runs whose student is a registered version."""
    client = connect(settings)
    names, token = set(), None
    while True:
        page = client.search_model_versions(max_results=1000, page_token=token)
        names |= {version.tags["kd.run"] for version in page if "kd.run" in version.tags}
        token = page.token
        if not token:
            return names


def find(keep: int, registered: Iterable[str], settings: Settings, now: datetime | None = None) -> Garbage:
    """What may go if the newest `keep` runs and those named `registered` stay."""
    now = now or datetime.now(UTC)
    runs, named = list_runs(settings), set(registered)
    kept = [run for age, run in enumerate(runs) if age < keep or run.id in named or _in_flight(run, now)]
    needed = _needed(kept, settings)
    gone = _unneeded(Storage(settings.store_uri), SWEPT, needed, now)
    cached = _unneeded(Storage(settings.cache_dir), ("files",), {name.removeprefix("dvc/") for name in needed}, now)
    local = {settings.cache_dir / name: size for name, size in cached.items()} | gc_machine.idle(settings, now)
    names = {run.id for run in kept}
    return Garbage(tuple(run for run in runs if run.id not in names), tuple(sorted(gone)), sum(gone.values()), local)


def delete(garbage: Garbage, settings: Settings) -> None:
    """Delete it: run-cache entries before the data that they promise, runs last."""
    for entry in garbage.local:
        gc_machine.remove(entry)
    store = Storage(settings.store_uri)
    for name in sorted(garbage.files, key=lambda name: not name.startswith("dvc/runs")):
        store.delete(name)
    for run in garbage.runs:
        run.storage.delete()


def collect(keep: int, really: bool, console: Console, settings: Settings) -> None:
    """What `kd gc` does: say what may go and, if `really`, delete it."""
    garbage = find(keep, registered_runs(settings), settings)
    for run in garbage.runs:
        console.print(f"run   {run.id}", highlight=False)
    here = sum(garbage.local.values())
    verb = "deleted" if really else "would be deleted"
    if really:
        delete(garbage, settings)
    store = f"{len(garbage.files)} files of the store ({garbage.size / 1e6:.1f} MB)"
    machine = f"{len(garbage.local)} files and folders of this machine ({here / 1e6:.1f} MB)"
    console.print(f"{len(garbage.runs)} runs, {store} and {machine} {verb}", highlight=False, soft_wrap=True)
    if not really and (garbage.runs or garbage.files or garbage.local):
        console.print("`kd gc --delete` deletes them", highlight=False)


def _unneeded(place: Storage, folders: Sequence[str], needed: set[str], now: datetime) -> dict[str, int]:
    """Name → bytes of the files in these folders that are not young, and not needed themselves nor inside what is."""
    return {
        name: status.size
        for folder in folders
        for inner, status in place.statuses(folder).items()
        if now - status.modified > GRACE and not _is_needed(name := f"{folder}/{inner}", needed)
    }


def _is_needed(name: str, needed: set[str]) -> bool:
    parts = name.split("/")
    return any("/".join(parts[:count]) in needed for count in range(1, len(parts) + 1))


def _in_flight(run: Run, now: datetime) -> bool:
    created = run.info().get("created")
    young = created is None or now - datetime.fromisoformat(str(created)) < IN_FLIGHT
    return young and run.lock(LAST_STAGE) is None


def _needed(kept: list[Run], settings: Settings) -> set[str]:
    """Names of the files and folders in the store that stay."""
    objects, needed = Objects(settings), set[str]()
    for run in kept:
        keys = {record.key for record in run.stages().values() if record.key}
        needed |= {f"dvc/runs/{key[:2]}/{key}" for key in keys}
        needed |= {f"state/{key}/{run.id}.json" for key in keys}
        needed |= {address.rsplit("/", 1)[0] for address in inputs.mentioned(run.params())}
        needed |= code_snapshot.names_of(run)
        needed |= {f"dvc/{object_name(md5)}" for md5 in _objects(run, objects)}
    return needed


def _objects(run: Run, objects: Objects) -> set[str]:
    found: set[str] = set()
    for fragment in run.locks().values():
        for md5 in out_hashes(fragment).values():
            found |= _members(md5, objects)
    return found


def _members(md5: str, objects: Objects) -> set[str]:
    try:
        return objects.members(md5)
    except FileNotFoundError:  # lost already: what it listed cannot be known, and cannot be restored either
        return {md5}
