"""Reads one role's source, groups near-duplicates, splits, and writes `data/raw/<role>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from components.base import Component, Context, run
from components.fetch import fetched_data, fetched_wheel
from kd_core.config.data import BotocoreSource, DataParams, FilesSource, HuggingFaceSource, Role
from kd_core.config.rules import has_pairs, paths_of
from kd_core.data.contradictions import contradictions, note_of
from kd_core.data.dataset import build_dataset, write_splits
from kd_core.data.sources.botocore_docs import label_names, read_models, rows_of
from kd_core.data.sources.columns import RowForm
from kd_core.data.sources.files import read_files
from kd_core.data.sources.huggingface import read_huggingface
from kd_core.data.splits.ledger import Ledger
from kd_core.data.splits.places import ledger_name
from kd_core.rows import rows_hash
from kd_core.runtime import fingerprint
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.storage import Storage
from kd_core.tables.listing import noted
from kd_core.tasks import columns

COMPONENT = Component(
    stage="ingest",
    items=("role",),
    params=("data.{role}", "resolved.data.{role}"),
    outputs={"raw": "data/raw/{role}"},
)


@dataclass(frozen=True)
class Read:
    """The result of reading a source."""

    rows: pd.DataFrame
    source: dict[str, Any]
    """The source that was read, at least its `revision`."""
    label_names: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names of each label in texts, if the source knows them."""
    notes: Sequence[str] = ()
    """Notes for people, for instance on files that were left out."""


def main(context: Context) -> None:
    """Write the five splits, dataset.json and ledger.parquet."""
    role: Role = context.items["role"]  # type: ignore[assignment]
    params = context.section(f"data.{role}", DataParams)
    resolved = _resolved(context, role)
    context.progress.update("read", 0, 3, "steps")
    found = _read(params, role, resolved)
    rows, source = found.rows, found.source
    context.progress.update("split", 1, 3, "steps", rows=len(rows))
    earlier = _earlier_ledger(context, resolved.get("ledger"))
    dataset = build_dataset(rows, params, earlier, source["revision"], role)
    context.progress.update("write", 2, 3, "steps", rows=len(rows))
    contradicting = contradictions(rows)
    record = {
        "role": role,
        "source": {**params.source.model_dump(mode="json", exclude=_unused(params)), **source},
        "revision": source["revision"],
        "label_names": found.label_names,
        "label_shares": dataset.ledger.label_shares,
        "previous": {"revision": earlier.revision, "label_shares": earlier.label_shares} if earlier.revision else None,
        "unlabelled_from": dataset.unlabelled_from,
        "contradictions": contradicting,
        "notes": [*found.notes, *note_of(contradicting), *dataset.notes],
    }
    folder = context.output("raw")
    write_splits(folder, dataset.splits, record)
    dataset.ledger.write(folder / "ledger.parquet")
    context.progress.update("write", 3, 3, "steps", rows=len(rows))


def _unused(params: DataParams) -> set[str]:
    """Fields of the source that this task does not use."""
    listed = params.task is not None and columns.of(params.task.kind).LISTED
    return set() if listed else {"label_separator"}


def _resolved(context: Context, role: Role) -> Mapping[str, Any]:
    try:
        return dict(context.value(f"resolved.data.{role}") or {})
    except ParamsError:  # a params.yaml written by hand pins nothing and has no earlier revision
        return {}


def _earlier_ledger(context: Context, sha256: str | None) -> Ledger:
    if not sha256:
        return Ledger()
    name = ledger_name(sha256)
    try:
        return Ledger.from_bytes(Storage(context.store_url).read(name), name)
    except FileNotFoundError:
        raise InvalidDataError(
            f"{context.store_url}/{name}: the split ledger of the previous revision is missing; restore it, since "
            "without it texts trained on could become test texts"
        ) from None


def _read(params: DataParams, role: Role, resolved: Mapping[str, Any]) -> Read:
    source, task = params.source, params.task
    if isinstance(source, BotocoreSource):
        return _read_botocore(source, resolved)
    kind = None if task is None else columns.of(task.kind)
    separator = source.label_separator if kind is not None and kind.LISTED else None
    form = RowForm(
        role=role,
        columns=source.columns,
        pair=has_pairs(params),
        labelled=kind is not None,
        separator=separator,
        ordered=kind is not None and kind.ORDERED,
    )
    if isinstance(source, FilesSource):
        return _read_files(source, resolved, form)
    revision = str(resolved.get("revision") or source.revision)
    return _read_hub(source, revision, form)


def _read_botocore(source: BotocoreSource, resolved: Mapping[str, Any]) -> Read:
    from importlib.metadata import version

    installed = version("botocore")
    wanted = str(resolved.get("revision") or source.revision)
    if wanted in ("installed", installed):
        models, found = read_models(source), {"revision": installed}
    else:
        with fetched_wheel("botocore", wanted) as wheel:
            models, found = read_models(source, wheel), {"revision": wanted, "wheel_sha256": fingerprint.of_file(wheel)}
    return Read(rows_of(models, source), found, label_names(models, source))


def _read_files(source: FilesSource, resolved: Mapping[str, Any], form: RowForm) -> Read:
    etags = resolved.get("etags") or {}
    notes = [f"files of the source: {noted(resolved['left_out'])}"] if resolved.get("left_out") else []
    paths: dict[str | None, list[Path]] = {}
    with ExitStack() as stack:
        for split, addresses in paths_of(source).items():
            for address in addresses:
                found = stack.enter_context(fetched_data(address, etags.get(address)))
                paths.setdefault(split, []).append(found.path)
                notes += [f"files of {address}: {noted(found.left_out)}"] if found.left_out else []
        rows, more = read_files(paths, form)
    return Read(rows, {"revision": rows_hash(rows)}, notes=[*notes, *more])


def _read_hub(source: HuggingFaceSource, revision: str, form: RowForm) -> Read:
    rows, notes = read_huggingface(source, revision, form)
    return Read(rows, {"revision": revision}, notes=notes)


if __name__ == "__main__":
    run(COMPONENT, main)
