"""Moves a stage's data with DVC: inputs from the shared store into the workspace, outputs back to the store.

It is the only module that holds a `dvc.repo.Repo`, and it is imported only when a stage really runs.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage.cache import _get_stage_hash
from dvc.stage.serialize import to_single_stage_lockfile
from dvc_data.hashfile.hash_info import HashInfo

from kd_core.runtime.errors import InvalidDataError, KDError, MissingOutputError, TryAgainError
from kd_ops.base.documents import to_yaml
from kd_ops.runs.objects import Objects
from kd_ops.stages.graph import Need
from kd_ops.stages.keys import Fragment, StageKey, made_again


class StageData:
    """The data of one stage in its workspace."""

    def __init__(self, folder: Path, stage: str, upstream: dict[str, Fragment], objects: Objects) -> None:
        _isolate(folder)
        (folder / "dvc.lock").write_bytes(to_yaml({"schema": "2.0", "stages": upstream}))
        self._folder, self._objects = folder, objects
        self._repo = Repo(str(folder))
        self._stage = self._load(stage)
        self._inputs: dict[Path, tuple[int, int]] = {}

    def pull(self, needs: Iterable[Need], key: StageKey) -> None:
        """Fetch the stage's inputs, hash them, and check the hashes against `key`.

        Raises InvalidDataError that names the stage whose output the store has lost or damaged, TryAgainError if the
        store has it but the download fails.
        """
        for need in needs:
            failed = self._fetch(need, key.inputs[need.path].objects)
            owner = self._load(need.stage)
            out = next(out for out in owner.outs if out.def_path == need.out)
            try:
                out.checkout(filter_info=str(self._folder / need.path))
            except DvcException as error:
                raise self._not_fetched(need, key.inputs[need.path].objects, failed or str(error)) from error
            self._remember(self._folder / need.path)
        self._stage.save_deps()
        if _get_stage_hash(_with_outs(self._stage)) != key.key:
            raise KDError(
                f"{self._stage.name}: DVC computes another key than the bridge; is this DVC a tested version?"
            )

    def push(self) -> Fragment:
        """Commit the outputs and upload them; returns the stage's full lock fragment.

        Raises MissingOutputError for an output that was not written, KDError if the command wrote into its inputs,
        TryAgainError if an upload failed.
        """
        self._check_inputs()
        hashes: set[HashInfo] = set()
        for out in self._stage.outs:
            self._check_out(out.def_path)
            out.save()
            out.commit(relink=False)
            for objects in out.get_used_objs().values():
                hashes |= objects
        if failed := self._transfer(self._repo.cloud.push, hashes):
            raise TryAgainError(
                f"{self._stage.name}: {failed} could not be uploaded to the store; DVC gave the reason above: free "
                "space or check the store and its credentials (KD_STORE_URI), then run again"
            )
        self._objects.settle(str(item.value) for item in hashes)
        fragment: Fragment = json.loads(json.dumps(to_single_stage_lockfile(self._stage)))
        return fragment

    def close(self) -> None:
        """Close DVC's databases."""
        self._repo.close()

    def _fetch(self, need: Need, wanted: frozenset[str]) -> str:
        """Bring objects into this machine's cache and check their hashes; returns the failure."""
        lacking = wanted - self._objects.cached(wanted)
        failed = self._transfer(self._repo.cloud.pull, {HashInfo("md5", md5) for md5 in wanted})
        if damaged := self._objects.discard_damaged(lacking - self._objects.cached(lacking)):
            raise InvalidDataError(
                f"{need.path} could not be fetched: {', '.join(damaged)} in the store was damaged and is deleted; "
                f"{made_again(need)}"
            )
        return failed

    def _not_fetched(self, need: Need, wanted: frozenset[str], why: str) -> KDError:
        if lost := self._objects.missing(wanted):
            return InvalidDataError(
                f"{need.path} could not be fetched: the shared store has lost {', '.join(lost)}; {made_again(need)}"
            )
        return TryAgainError(f"{need.path} could not be fetched ({why}); check the store, then run again")

    def _load(self, stage: str) -> Any:
        return self._repo.stage.load_one(str(self._folder / "dvc.yaml"), stage)

    def _transfer(self, move: Any, hashes: set[HashInfo]) -> str:
        failed = move(hashes).failed
        return ", ".join(sorted(str(item.value) for item in failed))

    def _remember(self, path: Path) -> None:
        files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
        self._inputs |= {file: _stamp(file) for file in files}

    def _check_inputs(self) -> None:
        """Check that the command wrote into no input: a linked input is the cache's own file, which later runs read."""
        for path, stamp in self._inputs.items():
            if not path.is_file() or _stamp(path) != stamp:
                self._evict(path)
                name = path.relative_to(self._folder)
                raise KDError(f"{self._stage.name} changed its input {name}; a stage may write only its outputs")

    def _evict(self, path: Path) -> None:
        if path.is_file():
            inode = path.stat().st_ino
            cache = Path(self._repo.cache.local.path)
            for file in cache.glob("*/*"):
                if file.stat().st_ino == inode:
                    file.unlink()

    def _check_out(self, name: str) -> None:
        path = self._folder / name
        files = [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
        if not files or not path.exists():
            raise MissingOutputError(f"{self._stage.name} ended well but did not write {name}")
        for file in files:
            file.chmod(0o644)


def _with_outs(stage: Any) -> Any:
    """Give outputs a placeholder hash: DVC's key lists only outputs that have a hash, but ignores its value."""
    for out in stage.outs:
        out.hash_info = out.hash_info or HashInfo("md5", "")
    return stage


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_size


def _isolate(folder: Path) -> None:
    """Keep the user's and the machine's DVC settings from changing keys or places."""
    os.environ.update(
        DVC_NO_ANALYTICS="1",
        DVC_GLOBAL_CONFIG_DIR=str(folder / ".dvc" / "none"),
        DVC_SYSTEM_CONFIG_DIR=str(folder / ".dvc" / "none"),
        DVC_SITE_CACHE_DIR=str(folder / ".dvc" / "site"),
    )
    logging.getLogger("dvc").setLevel(logging.ERROR)
