"""Fine-tunes a teacher on the gold labels of its data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from kd_core.config.training import Optimisation
from kd_core.distill.checkpoint import Curves
from kd_core.distill.loop import Batch, train
from kd_core.distill.texts import accuracy_on, batches_of
from kd_core.models.teacher import Teacher
from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage
from kd_core.tasks.encode import encode
from kd_core.tasks.loss import hard_loss

if TYPE_CHECKING:
    import pandas as pd


def fine_tune(
    teacher: Teacher,
    rows: pd.DataFrame,
    valid: pd.DataFrame,
    optimisation: Optimisation,
    progress: Progress,
    state: Storage | None = None,
) -> Curves:
    """Cross-entropy on labelled `rows`, all weights, in place; accuracy on `valid` after each epoch."""
    encoded = encode(rows, teacher.tokenizer, teacher.task)
    batches = batches_of(encoded, teacher.tokenizer, optimisation.batch_tokens, {"targets": encoded.targets})

    def logits(batch: Batch) -> Tensor:
        return teacher.logits({name: tensor for name, tensor in batch.items() if name != "targets"})

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": hard_loss(logits(batch), batch["targets"])}

    checked = encode(valid, teacher.tokenizer, teacher.task)
    validation = accuracy_on(teacher.model, logits, checked, teacher.tokenizer, optimisation.batch_tokens)
    return train(teacher.model, loss, batches, optimisation, progress, state, validation)
