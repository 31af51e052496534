"""Reads what the stages of a run wrote, by name, out of DVC's cache or remote; no workspace and no import of DVC."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.runtime.files import write_whole
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import Settings
from kd_ops.runs.objects import Listing, places, read_listing, read_object
from kd_ops.runs.runs import Run

Found = TypeVar("Found")

_FOLDER = ".dir"


class Outs:
    """The outputs of a run.

    :param run: its stage records say what was written
    :param places: where DVC keeps objects, nearest first: this machine's cache, the remote
    """

    def __init__(self, run: Run, places: Sequence[Storage]) -> None:
        self._run = run
        self._places = list(places)
        self._hashes: dict[str, str] | None = None

    @classmethod
    def of(cls, run: Run, settings: Settings) -> Outs:
        """The outputs of a run, from this machine's cache or the remote."""
        return cls(run, places(settings))

    def hashes(self) -> dict[str, str]:
        """Path → md5 of everything that the finished stages wrote."""
        if self._hashes is None:
            done = (record for record in self._run.stages().values() if record.status == "done")
            self._hashes = {path: md5 for record in done for path, md5 in record.outs.items()}
        return self._hashes

    def __contains__(self, path: str) -> bool:
        """Whether an output of this name, or a folder with it, was written."""
        return bool(self._find(path))

    def md5(self, path: str) -> str:
        """Hash of a whole output. Raises TryAgainError if the run has no such output."""
        try:
            return self.hashes()[path]
        except KeyError:
            raise TryAgainError(f"run {self._run.id}: no stage of this run wrote {path} (yet)") from None

    def files(self, path: str) -> dict[str, str]:
        """Path of each file → md5, for an output, or a file or folder inside one; relative to `path`, "." for a file.

        Raises TryAgainError if it was not written yet, InvalidDataError if it never will be or its objects are nowhere.
        """
        found = self._find(path)
        if found is None:
            raise TryAgainError(f"run {self._run.id}: no stage of this run wrote {path} (yet)")
        if not found:
            raise InvalidDataError(
                f"run {self._run.id}: the stage that should have written {path} did not; start a new run"
            )
        return found

    def _find(self, path: str) -> dict[str, str] | None:
        """The files at a path; None where no stage has written there, empty where one has left it out."""
        for owner in [path, *map(str, PurePosixPath(path).parents)]:
            if owner not in self.hashes():
                continue
            md5 = self.hashes()[owner]
            if md5.endswith(_FOLDER):
                return self._inside(self._found(read_listing, md5), owner, path)
            return {".": md5} if owner == path else {}
        return None

    def read(self, path: str) -> bytes:
        """Content of one file, itself an output or inside one."""
        files = self.files(path)
        if "." not in files:
            raise InvalidDataError(f"run {self._run.id}: {path} is a folder, not a file; start a new run")
        return self._found(read_object, files["."])

    def fetch(self, path: str, target: Path) -> Path:
        """Copy an output, or a part of one, to `target`."""
        for relative, md5 in self.files(path).items():
            write_whole(target / relative, self._found(read_object, md5))
        return target

    def _inside(self, listing: Listing, owner: str, path: str) -> dict[str, str]:
        found = {}
        for name, md5 in listing.items():
            file = PurePosixPath(owner, name)
            if file.is_relative_to(path):
                found[str(file.relative_to(path))] = md5
        return found

    def _found(self, read: Callable[[str, Sequence[Storage]], Found], md5: str) -> Found:
        try:
            return read(md5, self._places)
        except FileNotFoundError:
            raise InvalidDataError(
                f"object {md5} is in neither cache nor store; start a new run, which computes it again"
            ) from None


def read_document(outs: Outs, path: str) -> dict[str, Any]:
    """A JSON output; empty where the run did not get so far."""
    values = json.loads(outs.read(path)) if path in outs else {}
    return values if isinstance(values, dict) else {}
