"""One process of this machine at a time; the kernel drops the lock of a process that dies."""

from __future__ import annotations

from filelock import FileLock

from kd_ops.base.settings import Settings


def exclusive(settings: Settings, *name: str) -> FileLock:
    """The lock of this name below KD_HOME, to be held with `with`.

    Names have parts, `("model", NAME)`, so that what a user may call a model can be no other lock's name. A lock is not
    reentrant: who asks for one that this thread holds gets a RuntimeError.
    """
    place = settings.home.joinpath("locks", *name[:-1], f"{name[-1]}.lock")
    place.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(place, fallback_to_soft=False)  # a lock without the kernel's help outlives a killed process
