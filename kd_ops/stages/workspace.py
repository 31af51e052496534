"""A fresh folder in which one stage runs: the run's code with normal modes, its params, DVC's settings.

What is hashed is what runs: nothing of the project is in the folder but the code given, and only this folder is on the
stage's import path. Folders left behind by a killed process are swept by the next one.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from kd_core.runtime.errors import TryAgainError
from kd_ops.base.locks import exclusive
from kd_ops.base.settings import Settings
from kd_ops.stages.code_snapshot import Code, place

LINKS = "reflink,hardlink,copy"
"""How inputs come into the folder of a stage, which may not write into them."""

_FOLDER = "work"

_CONFIG = """\
[core]
    no_scm = true
    analytics = false
    check_update = false
    autostage = false
    remote = store
    site_cache_dir = {site}
[cache]
    dir = {cache}
    type = "{links}"
['remote "store"']
    url = {remote}
"""


def fill(folder: Path, settings: Settings, params: bytes, code: Code, links: str) -> None:
    """Write code, params.yaml and .dvc/config into `folder`; `links`: how DVC brings files there from its cache."""
    place(code, folder)
    (folder / "params.yaml").write_bytes(params)
    dvc = folder / ".dvc"
    (dvc / "tmp").mkdir(parents=True)
    remote = f"{settings.store_uri}/dvc"
    values = {"site": dvc / "site", "cache": settings.cache_dir, "remote": remote}
    config = _CONFIG.format(links=links, **{name: _quoted(str(value)) for name, value in values.items()})
    (dvc / "config").write_text(config, encoding="utf-8")


def _quoted(value: str) -> str:
    """A value of DVC's config as it is: unquoted, `,` would make a list of it and `#` end it."""
    return f"'{value}'" if '"' in value else f'"{value}"'


@contextmanager
def workspace(settings: Settings, params: bytes, code: Code) -> Iterator[Path]:
    """A filled folder below KD_HOME/work, removed at the end, however it comes. Raises TryAgainError if unwritable."""
    parent = settings.home / _FOLDER
    folder = parent / uuid.uuid4().hex
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _sweep(settings)
        alive = _mark(settings, folder.name)
        alive.acquire()
    except OSError as error:
        raise TryAgainError(
            f"{parent}: cannot be written ({error.strerror}); set KD_HOME to a writable folder"
        ) from None
    try:
        folder.mkdir()
        fill(folder, settings, params, code, LINKS)
        yield folder
    finally:
        _remove(folder, alive)
        alive.release()


def at_work(settings: Settings) -> bool:
    """Whether a stage is at work on this machine."""
    for folder in _folders(settings):
        with _if_dead(settings, folder) as alive:
            if alive is None:
                return True
    return False


def _mark(settings: Settings, name: str) -> FileLock:
    """Held by the owner of a workspace for as long as it lives."""
    return exclusive(settings, _FOLDER, name)


def _folders(settings: Settings) -> list[Path]:
    return sorted((settings.home / _FOLDER).glob("*"))


@contextmanager
def _if_dead(settings: Settings, folder: Path) -> Iterator[FileLock | None]:
    """The lock of a workspace whose owner is gone; None while it lives."""
    alive = _mark(settings, folder.name)
    try:
        alive.acquire(timeout=0)
    except (Timeout, RuntimeError):  # another process, or this thread
        yield None
        return
    try:
        yield alive
    finally:
        alive.release()


def _remove(folder: Path, alive: FileLock) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    Path(alive.lock_file).unlink(missing_ok=True)


def _sweep(settings: Settings) -> None:
    """Remove the folders whose owner is gone."""
    for folder in _folders(settings):
        with _if_dead(settings, folder) as alive:
            if alive is not None:
                _remove(folder, alive)
