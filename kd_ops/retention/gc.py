"""Finds and deletes what nothing needs any more: marks what kept runs use, and sweeps the rest of store and cache.

It keeps the runs of registered model versions, the newest runs, those that give signs of life and, for some days, those
that are not registered yet. Each run keeps its outputs and the run-cache entries, local inputs and code behind them.
Scores, ledgers and provenance always stay. Files younger than a day are not touched, since a task may be about to
publish them.

Runs may go on at the same time. So marking is repeated before anything is deleted, and again after the run-cache
entries are deleted: a run that read one of them has recorded the stage's key by then. A run that finds in the store
what it would have written (an output, code, a local input) makes it count as young, so the age of each file is checked
again just before its deletion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from rich.console import Console

from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import connect
from kd_ops.retention import gc_machine
from kd_ops.retention.marks import ENTRIES, GRACE, STATE, Marks, mark, promises
from kd_ops.retention.safety import check_view
from kd_ops.runs.notes import forget_run
from kd_ops.runs.runs import Run
from kd_ops.stages import code_snapshot, inputs
from kd_ops.stages.workspace import at_work

SWEPT = ("dvc/files", ENTRIES, inputs.FOLDER, code_snapshot.FOLDER, STATE)


@dataclass(frozen=True)
class Garbage:
    """What may be deleted."""

    runs: tuple[Run, ...]
    files: tuple[str, ...]
    """Names in the store."""
    size: int
    """Size of `files` in bytes."""
    local: dict[Path, int]
    """Files and folders of this machine → size in bytes."""


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
    """What may be deleted if the newest `keep` runs and those named `registered` stay."""
    store = Storage(settings.store_uri)
    now = now or store.now()
    marks = mark(keep, registered, settings, now, {})
    gone = _unneeded(store, SWEPT, marks, now)
    busy = at_work(settings)  # a stage at work has objects in this machine's cache that no record names yet
    cached = {} if busy else _unneeded(Storage(settings.cache_dir), ("files",), marks, now, prefix="dvc/")
    local = {settings.cache_dir / name: size for name, size in cached.items()} | gc_machine.idle(settings, now)
    return Garbage(marks.gone, tuple(sorted(gone)), sum(gone.values()), local)


def delete(
    garbage: Garbage, keep: int, registered: Iterable[str], settings: Settings, now: datetime | None = None
) -> None:
    """Delete the garbage that is still not needed: entries before the data that they promise, runs last."""
    store, named = Storage(settings.store_uri), list(registered)
    promised, clock = promises(garbage.files, settings), now or store.now()

    def again() -> Marks:
        return mark(keep, named, settings, now or store.now(), promised)

    def go(names: Iterable[str], marks: Marks) -> None:
        for name in names:
            if not marks.needs(name) and not _is_young(name, store, clock):
                store.delete(name)

    entries = {name for name in garbage.files if name.startswith(f"{ENTRIES}/")}
    go(sorted(entries), again())
    marks = again()
    go([name for name in garbage.files if name not in entries], marks)
    gc_machine.sweep(garbage.local, marks, settings, clock)
    kept = again().kept  # includes runs that somebody resumed in the meantime
    for run in garbage.runs:
        if run.id not in kept:
            forget_run(run, settings.store_uri)
            run.storage.delete()


def collect(keep: int, really: bool, console: Console, settings: Settings) -> None:
    """The command `kd gc`: print what may be deleted and, if `really`, delete it.

    Raises ParamsError if some runs or registered versions that use the store are not visible.
    """
    registered = registered_runs(settings)
    check_view(registered, settings, Storage(settings.store_uri).now())
    garbage = find(keep, registered, settings)
    for run in garbage.runs:
        console.print(f"run   {run.id}", highlight=False)
    here = sum(garbage.local.values())
    verb = "deleted" if really else "would be deleted"
    if really:
        delete(garbage, keep, registered_runs(settings), settings)
    store = f"{len(garbage.files)} files of the store ({garbage.size / 1e6:.1f} MB)"
    machine = f"{len(garbage.local)} files and folders of this machine ({here / 1e6:.1f} MB)"
    console.print(f"{len(garbage.runs)} runs, {store} and {machine} {verb}", highlight=False, soft_wrap=True)
    if not really and (garbage.runs or garbage.files or garbage.local):
        console.print("`kd gc --delete` deletes them", highlight=False)


def _is_young(name: str, store: Storage, now: datetime) -> bool:
    """Whether a file, or the address that it belongs to, was written or renewed within the grace period."""
    names = {name, inputs.complete_of(name) or name}
    return any(now - status.modified <= GRACE for each in names if (status := store.status(each)) is not None)


def _unneeded(place: Storage, folders: Sequence[str], marks: Marks, now: datetime, prefix: str = "") -> dict[str, int]:
    """Name → bytes of the files in these folders that are neither young, nor needed, nor inside a needed folder."""
    return {
        name: status.size
        for folder in folders
        for inner, status in place.statuses(folder).items()
        if now - status.modified > GRACE and not marks.needs(f"{prefix}{(name := f'{folder}/{inner}')}")
    }
