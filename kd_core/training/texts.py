"""Encoded rows as what the loop takes, and the main metric of a model's answers to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from kd_core.config.data import Kind
from kd_core.inference.asking import ask
from kd_core.inference.batches import Batch, Encoded, collate, padded, token_batches
from kd_core.tasks import decide
from kd_core.tasks.units import Units
from kd_core.training.loop import Batches, Validation

TARGETS = "targets"
"""Column of a batch: gold [B, U, …]."""


def batches_of(encoded: Encoded, pad_id: int, batch_tokens: int, columns: Mapping[str, Units]) -> Batches:
    """Token batches of all rows; each carries its rows of `columns` (each of N rows), padded to [B, U, …]."""

    def collate_rows(indices: list[int]) -> Batch:
        chosen = {name: padded(column, indices) for name, column in columns.items()}
        return collate(encoded, indices, pad_id) | chosen

    lengths = encoded.lengths
    return Batches(lambda generator: token_batches(lengths, batch_tokens, generator), collate_rows)


def validation_on(
    model: nn.Module,
    answer: Callable[[Batch], Tensor],
    encoded: Encoded,
    pad_id: int,
    batch_tokens: int,
    kind: Kind,
) -> Validation | None:
    """The main metric of `answer`'s probabilities ([B, U, C], in the task's label order) on labelled rows.

    None if there are none.
    """
    labelled, task = encoded.labelled, decide.of(kind)
    if not labelled.any():
        return None
    gold = encoded.targets.take(labelled)

    def metrics() -> dict[str, float]:
        probabilities = ask(model, answer, encoded, pad_id, batch_tokens).take(labelled)
        counts = task.counts(task.decisions(probabilities), gold)
        return {task.MAIN_METRIC: float(task.metric(counts.sum(0)))}

    return Validation(metrics, task.MAIN_METRIC)
