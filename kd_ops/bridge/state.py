"""Where a stage keeps unfinished work, and how another run takes over what a dead one left.

Each run writes only its own folder, `RUN_URI/state/KEY/`, so two runs racing on one key cannot disturb each other. So
that a second `kd run` after a kill resumes too, each owner registers under the stage's key in
`STORE_URI/state/KEY/RUN.json`. Whoever starts on the key with an empty folder copies that of an owner who gave up or
is dead: on the same machine and PID namespace its process is asked for, elsewhere it is dead after BEAT_LIMIT_S
without a sign of life. An owner taken for dead by mistake loses nothing: its folder was only read.

A second try of the same run's stage would write into the same folder. It is refused while the first one lives, which
a scheduler may have lost sight of.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.runs.runs import Run

BEAT_LIMIT_S = 90.0
"""Shorter than a scheduler's retries take together: after a kill elsewhere one of them finds the owner dead."""


class State:
    """The state folder of one run's stage."""

    def __init__(self, run: Run, store_uri: str, key: str) -> None:
        self.url = f"{run.uri}/state/{key}"
        self._folder = Storage(self.url)
        self._owners = Storage(f"{store_uri}/state/{key}")
        self._name = f"{run.id}.json"

    @contextmanager
    def held(self) -> Iterator[str | None]:
        """Own the work, given whose it was; left by an exception, it may be taken over at once."""
        found = self.open()
        try:
            yield found
        except BaseException:
            self.release()
            raise

    def open(self) -> str | None:
        """Register, and take over a dead owner's work if there is none of our own; whose it was.

        Raises TryAgainError while another process of this run is at work here.
        """
        self._check_alone()
        found = None if self._folder.list() else self._abandoned()
        for name in found.list() if found else []:
            self._folder.write(name, found.read(name))  # type: ignore[union-attr]
        self.beat()
        return found.url if found else None

    def beat(self) -> None:
        """Give a sign of life."""
        self._owners.write(self._name, json.dumps({"url": self.url, "time": time.time(), **_process()}).encode())

    def release(self) -> None:
        """Say that the work may be taken over."""
        self._owners.write(self._name, json.dumps({"url": self.url, "time": 0.0}).encode())

    def remove(self) -> None:
        """The stage is done: delete this run's work and that of dead owners."""
        for name, owner in self._all_owners():
            if name != self._name and _is_dead(owner):
                Storage(owner["url"]).delete()
                self._owners.delete(name)
        self._folder.delete()
        self._owners.delete(self._name)

    def _check_alone(self) -> None:
        owner = dict(self._all_owners()).get(self._name)
        if owner is None or _is_dead(owner) or _is_this_process(owner):
            return
        here = owner.get("place") == _place()
        who = f"process {owner['pid']}" if here else f"another machine ({time.time() - owner['time']:.0f} s ago)"
        raise TryAgainError(
            f"another try of this run's stage is still at work: {who}; wait for its end or stop it, then run again"
        )

    def _all_owners(self) -> list[tuple[str, dict[str, Any]]]:
        owners = []
        for name in self._owners.list():
            try:
                owners.append((name, json.loads(self._owners.read(name))))
            except FileNotFoundError:
                continue
        return owners

    def _abandoned(self) -> Storage | None:
        dead = [owner for name, owner in self._all_owners() if name != self._name and _is_dead(owner)]
        folders = [Storage(owner["url"]) for owner in sorted(dead, key=lambda o: float(o["time"]), reverse=True)]
        return next((folder for folder in folders if folder.list()), None)


def _is_dead(owner: dict[str, Any]) -> bool:
    here = _process()
    if here["place"] is not None and owner.get("place") == here["place"]:
        return bool(_started(int(owner["pid"])) != owner["started"])
    return time.time() - float(owner["time"]) > BEAT_LIMIT_S


def _is_this_process(owner: dict[str, Any]) -> bool:
    return owner.get("place") is not None and _process().items() <= owner.items()


def _process() -> dict[str, Any]:
    """This process, so that others can tell whether it lives; `place` is the boot and PID namespace, or None."""
    return {"place": _place(), "pid": os.getpid(), "started": _started(os.getpid())}


def _place() -> str | None:
    """None also where /proc shows another PID namespace (`unshare -p` without --mount-proc): its numbers mislead."""
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
