"""The scoring loop: only what the store lacks, in batches of equally long texts, kept every few seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import groupby, takewhile
from typing import TYPE_CHECKING

import numpy as np
import torch

from kd_core.inference.batches import Encoded, collate, encode
from kd_core.runtime.cpu import usable_threads
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.progress import Progress
from kd_core.tasks.units import Units
from kd_core.teachers.engines import Batch, Engine, answers, faster, in_pytorch
from kd_core.teachers.model import Teacher
from kd_core.teachers.score_keys import ScoreSpec, row_keys
from kd_core.teachers.score_store import ScoreStore

if TYPE_CHECKING:
    import pandas as pd

SHARD_SECONDS = 10.0
"""Work that a kill can lose, at most."""
COMPARED_FROM_SECONDS = 180.0
"""So much more work in PyTorch is worth the time that an export and a comparison of engines take."""

_BATCH_TOKENS = {"cpu": 1024, "cuda": 32768}
"""Small batches stay in a CPU's cache; a GPU wants large ones."""


def spec_of(teacher: Teacher) -> ScoreSpec:
    """What this teacher's scores depend on."""
    if not teacher.fingerprint:
        raise InvalidDataError(f"teacher {teacher.name}: has no fingerprint; save it and load it before it scores")
    return ScoreSpec(
        fingerprint=teacher.fingerprint,
        tokenizer=teacher.tokenizer_hash,
        labels=teacher.labels,
        label_order=teacher.label_order,
        pair=teacher.pair,
        max_length=teacher.max_length,
        precision=teacher.precision,
    )


def score(
    teacher: Teacher, rows: pd.DataFrame, store: ScoreStore, progress: Progress, engine: Engine | None = None
) -> Units:
    """The teacher's logits [ΣU, C] in fp32 for each row, in the order of `teacher.labels`.

    Texts that the store has are not scored again; equal texts are scored once. A batch holds texts of one length only,
    so nothing is padded and a row's logits do not depend on which rows stand beside it.

    :param engine: what computes; None: PyTorch, and where minutes of work are left what is then measured to be faster
    :raises InvalidDataError: logits are not finite
    """
    spec, keys = spec_of(teacher), row_keys(rows, teacher.pair)
    found, logits = store.lookup(spec, keys)
    first = ~rows.assign(key=keys).duplicated("key").to_numpy()
    todo = np.flatnonzero(first & ~found)
    total = int(first.sum())
    done = total - len(todo)
    progress.update("score", done, total, "texts")
    for positions, values in _shards(teacher, rows.iloc[todo], engine):
        chosen = todo[positions]
        store.add(spec, [keys[index] for index in chosen], values)
        done += len(chosen)
        progress.update("score", done, total, "texts")
    return store.lookup(spec, keys)[1] if len(todo) else logits


def logits_of(teacher: Teacher, rows: pd.DataFrame) -> Units:
    """The teacher's logits [ΣU, C] in fp32 for each row, past any store. Raises InvalidDataError as `score` does."""
    parts = list(_shards(teacher, rows))
    order = np.argsort([position for positions, _ in parts for position in positions])
    return Units.joined([values for _, values in parts]).take(order)


def _shards(teacher: Teacher, rows: pd.DataFrame, engine: Engine | None = None) -> Iterator[tuple[list[int], Units]]:
    """Row positions and their logits, a few seconds' worth at a time."""
    device, chosen, engine = teacher.model.device.type, engine is not None, engine or in_pytorch(teacher)
    encoded = encode(rows, teacher.tokenizer, teacher.task)
    left = equal_length_batches(encoded.lengths, _BATCH_TOKENS.get(device, 1024))

    def collated(indices: Sequence[int]) -> Batch:
        return collate(encoded, indices, teacher.tokenizer.pad_token_id)

    while left:
        began = time.monotonic()
        found = list(answers(engine, map(collated, _begun_within(SHARD_SECONDS, left)), device))
        seconds_a_batch = (time.monotonic() - began) / len(found)
        done, left = left[: len(found)], left[len(found) :]
        values = [_units(teacher, each, encoded, batch) for each, batch in zip(found, done, strict=True)]
        yield [index for batch in done for index in batch], Units.joined(values)
        if not chosen and seconds_a_batch * len(left) > COMPARED_FROM_SECONDS:
            engine, chosen = faster(teacher, [collated(batch) for batch in _spread(left)]), True


def _begun_within(seconds: float, batches: Sequence[list[int]]) -> Iterator[list[int]]:
    """The first batch, and those that are asked for while so many seconds last."""
    end = time.monotonic() + seconds
    return takewhile(lambda batch: batch is batches[0] or time.monotonic() < end, batches)


def _spread(batches: Sequence[list[int]]) -> Sequence[list[int]]:
    """Some of `batches`, of all lengths."""
    return batches[:: -(-len(batches) // (4 * usable_threads()))]


def _units(teacher: Teacher, logits: torch.Tensor, encoded: Encoded, batch: Sequence[int]) -> Units:
    """A batch's logits [B, U, C] without padding."""
    mask = encoded.targets.padded(batch)[1]
    found = logits.numpy()[mask]
    if not np.isfinite(found).all():
        raise InvalidDataError(f"teacher {teacher.name}: some logits are not finite; use fp32 or check its weights")
    return Units.of_sizes(found, mask.sum(1))


def equal_length_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices grouped so that a batch has one length and at most `batch_tokens` tokens; the longest first."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    batches = []
    for length, group in groupby(order, key=lambda index: lengths[index]):
        same, size = list(group), max(1, batch_tokens // max(length, 1))
        batches += [same[start : start + size] for start in range(0, len(same), size)]
    return batches
