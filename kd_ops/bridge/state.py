"""Keeps a stage's unfinished work, and takes over the work that a dead run left.

Each run writes only its own folder, `RUN_URI/state/KEY/`, so two runs that race on one key cannot disturb each other.
Each owner registers under the stage's key in `STORE_URI/state/KEY/RUN.json`, so that a new `kd run` after a kill also
resumes. A run that starts on the key with an empty folder copies the folder of an owner that gave up or is dead. On the
same machine and PID namespace, an owner is dead if its process is gone; elsewhere, after BEAT_LIMIT_S without a sign of
life, by the store's clock. An owner taken for dead by mistake loses nothing: its folder was only read.

The folder's place follows from the owner's name, beside this run's folder, and never from the owner's file.

A second try of the same run's stage would write into the same folder. It is refused while the first try lives, even if
a scheduler has lost sight of that one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.files import to_json
from kd_core.runtime.storage import Storage
from kd_ops.runs.runs import Run

BEAT_LIMIT_S = 90.0
"""Shorter than a scheduler's retries together, so that one of them finds an owner dead that was killed elsewhere."""


@dataclass(frozen=True)
class _Owner:
    """A run that works or worked on the key."""

    run: str
    process: dict[str, Any]
    """The result of `_process`; empty if the owner gave up its work."""
    seen: datetime
    """Its last sign of life, by the store's clock."""


class State:
    """The state folder of one run's stage."""

    def __init__(self, run: Run, store_uri: str, key: str) -> None:
        self.url = f"{run.uri}/state/{key}"
        self._run, self._key = run, key
        self._folder = Storage(self.url)
        self._owners = Storage(f"{store_uri}/state/{key}")

    @contextmanager
    def held(self) -> Iterator[str | None]:
        """Own the work; yields its former owner. After an exception, another run may take it over at once."""
        found = self.open()
        try:
            yield found
        except BaseException:
            self.release()
            raise

    def open(self) -> str | None:
        """Register, and take over a dead owner's work if this run has none; returns that owner.

        Raises TryAgainError while another process of this run works on the stage.
        """
        self._check_alone()
        found = None if self._folder.list() else self._abandoned()
        for name in found.list() if found else []:
            self._folder.write(name, found.read(name))  # type: ignore[union-attr]
        self.beat()
        return found.url if found else None

    def beat(self) -> None:
        """Give a sign of life."""
        self._owners.write(f"{self._run.id}.json", to_json(_process()))

    def release(self) -> None:
        """Record that the work may be taken over."""
        self._owners.write(f"{self._run.id}.json", to_json({}))

    def remove(self) -> None:
        """Delete this run's work and that of dead owners, because the stage is done."""
        for owner in self._others():
            if self._is_dead(owner):
                self._folder_of(owner).delete()
                self._owners.delete(f"{owner.run}.json")
        self._folder.delete()
        self._owners.delete(f"{self._run.id}.json")

    def _check_alone(self) -> None:
        own = next((owner for owner in self._all_owners() if owner.run == self._run.id), None)
        if own is None or self._is_dead(own) or _is_this_process(own.process):
            return
        here = own.process["place"] == _place()
        who = f"process {own.process['pid']}" if here else f"another machine ({self._silence(own):.0f} s ago)"
        raise TryAgainError(
            f"another try of this run's stage is still at work: {who}; wait for its end or stop it, then run again"
        )

    def _all_owners(self) -> list[_Owner]:
        owners = []
        for name, status in self._owners.statuses().items():
            if "/" in name or name.startswith(".") or not name.endswith(".json"):
                continue
            try:
                process = json.loads(self._owners.read(name))
            except (FileNotFoundError, ValueError):
                continue
            known = isinstance(process, dict) and process.keys() == _process().keys()
            owners.append(_Owner(name.removesuffix(".json"), process if known else {}, status.modified))
        return owners

    def _others(self) -> list[_Owner]:
        return [owner for owner in self._all_owners() if owner.run != self._run.id]

    def _abandoned(self) -> Storage | None:
        dead = [owner for owner in self._others() if self._is_dead(owner)]
        folders = [self._folder_of(owner) for owner in sorted(dead, key=lambda owner: owner.seen, reverse=True)]
        return next((folder for folder in folders if folder.list()), None)

    def _folder_of(self, owner: _Owner) -> Storage:
        return Storage(f"{self._run.uri.rpartition('/')[0]}/{owner.run}/state/{self._key}")

    def _is_dead(self, owner: _Owner) -> bool:
        if not owner.process:
            return True
        here = _process()
        if here["place"] is not None and owner.process["place"] == here["place"]:
            return bool(_started(int(owner.process["pid"])) != owner.process["started"])
        return self._silence(owner) > BEAT_LIMIT_S

    def _silence(self, owner: _Owner) -> float:
        """Seconds since the last sign of life by the store's clock, since a machine's clock may be wrong."""
        return (self._owners.now() - owner.seen).total_seconds()


def _is_this_process(process: dict[str, Any]) -> bool:
    return process["place"] is not None and process == _process()


def _process() -> dict[str, Any]:
    """A description by which others can tell if this process lives; `place` is boot and PID namespace, or None."""
    return {"place": _place(), "pid": os.getpid(), "started": _started(os.getpid())}


def _place() -> str | None:
    """Boot and PID namespace; None if unknown or if /proc shows another one (`unshare -p` without --mount-proc)."""
    try:
        if str(Path("/proc/self").readlink()) != str(os.getpid()):
            return None
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """When the process began (clock ticks since boot); None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]
