"""A stage's key as DVC's run-cache computes it, from lock fragments instead of data.

Hashes of what other stages wrote are taken from their lock fragments (and folder listings), so that a HIT costs no
download. On a MISS the bridge compares the key with DVC's own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kd_core.runtime.errors import InvalidDataError, ParamsError, TryAgainError
from kd_ops.base.documents import from_yaml
from kd_ops.runs.objects import Listing, Objects, file_md5, listing_md5, stage_key
from kd_ops.stages.closures import is_code_list
from kd_ops.stages.graph import Graph, Need, Stage

Fragment = dict[str, Any]
"""A stage's entry in dvc.lock: cmd, deps, params and, once it has run, outs."""


@dataclass(frozen=True)
class Input:
    """What one need comes to."""

    md5: str
    """As DVC hashes it at the need's path."""
    objects: frozenset[str]
    """What has to be fetched for it."""


@dataclass(frozen=True)
class StageKey:
    """A stage's inputs and the key that they give."""

    key: str
    fragment: Fragment
    """cmd, deps and params; no outs."""
    inputs: dict[str, Input]
    """By path."""


def out_hashes(fragment: Fragment) -> dict[str, str]:
    """Path → md5 of a fragment's outputs."""
    return {out["path"]: out["md5"] for out in fragment["outs"]}


def code_hashes(stage: Stage, folder: Path) -> Listing:
    """Path → hash of the project's files that the stage depends on, in the filled workspace `folder`."""
    listed: Listing = {}
    files: list[Path] = []
    for dep in stage.deps:
        path = folder / dep
        if is_code_list(dep) and path.is_file():
            listed |= json.loads(path.read_bytes())
        else:
            files += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return listed | {file.relative_to(folder).as_posix(): file_md5(file) for file in sorted(files)}


def compute(graph: Graph, name: str, folder: Path, locks: dict[str, Fragment], objects: Objects) -> StageKey:
    """The key of stage `name` in the filled workspace `folder`.

    `locks` holds the fragments of the stages upstream. Raises TryAgainError naming the stage that owes an input,
    InvalidDataError naming one whose output the store has lost, and ParamsError for a key that params.yaml lacks or a
    dependency that nobody writes.
    """
    stage = graph[name]
    inputs = {need.path: _input(need, locks, objects) for need in graph.needs(name)}
    hashes = {path: item.md5 for path, item in inputs.items()}
    fragment: Fragment = {
        "cmd": stage.cmd,
        "deps": [_dependency(dep, graph.needs(name), folder, hashes, objects) for dep in stage.deps],
    }
    if stage.params:
        fragment["params"] = {"params.yaml": read_params(folder, stage)}
    return StageKey(stage_key(fragment, stage.outs), fragment, inputs)


def read_params(folder: Path, stage: Stage) -> dict[str, Any]:
    """The params that the stage lists, by dotted key. Raises ParamsError naming a missing one."""
    return listed_params(from_yaml((folder / "params.yaml").read_bytes()), stage)


def listed_params(document: dict[str, Any], stage: Stage) -> dict[str, Any]:
    """As `read_params`, of a document that has been read."""
    values = {}
    for key in stage.params:
        value: Any = document
        for part in key.split("."):
            if not isinstance(value, dict) or part not in value:
                raise ParamsError(f"{stage.name} needs the params {key!r}, which this run has not resolved")
            value = value[part]
        values[key] = value
    return values


def _input(need: Need, locks: dict[str, Fragment], objects: Objects) -> Input:
    if need.stage not in locks:
        raise TryAgainError(f"{need.path} is missing: stage {need.stage} owes it; run {need.stage} first")
    md5 = out_hashes(locks[need.stage])[need.out]
    try:
        if need.path == need.out:
            return Input(md5, frozenset(objects.members(md5)))
        part = _inner(need.dep[len(need.out) + 1 :], objects.listing(md5))
    except FileNotFoundError:
        raise InvalidDataError(f"{need.path}: the shared store has lost {md5}; {made_again(need)}") from None
    if not part:
        raise InvalidDataError(f"{need.path}: stage {need.stage} did not write it into {need.out}; {made_again(need)}")
    hashed = part[""] if "" in part else listing_md5(part)
    return Input(hashed, frozenset({md5, *part.values()}))


def made_again(need: Need) -> str:
    """What to do where an input is lost: a stage is computed again where its outputs are no longer in the store."""
    return f"run {need.stage} again, or start a new run, which computes it"


def _inner(path: str, files: Listing) -> Listing:
    """The file at `path` (under the empty name) or the files below it."""
    if path in files:
        return {"": files[path]}
    return {name[len(path) + 1 :]: md5 for name, md5 in files.items() if name.startswith(f"{path}/")}


def _dependency(dep: str, needs: list[Need], folder: Path, hashes: dict[str, str], objects: Objects) -> dict[str, Any]:
    """The dependency's entry in dvc.lock: one output, a file of the project, or a folder of both."""
    entry = {"path": dep, "hash": "md5"}
    if dep in hashes:
        return {**entry, "md5": hashes[dep]}
    path = folder / dep
    if path.is_file():
        return {**entry, "md5": file_md5(path)}
    files = {file.relative_to(path).as_posix(): file_md5(file) for file in path.rglob("*") if file.is_file()}
    for need in needs:
        if need.dep == dep:
            files |= _placed(need.out[len(dep) + 1 :], hashes[need.out], objects)
    if not files:
        raise ParamsError(f"{dep}: no stage writes this dependency and the project does not have it")
    return {**entry, "md5": listing_md5(files)}


def _placed(prefix: str, md5: str, objects: Objects) -> Listing:
    if not md5.endswith(".dir"):
        return {prefix: md5}
    return {f"{prefix}/{path}": file for path, file in objects.listing(md5).items()}
