"""A teacher's probabilities of encoded rows, in plain PyTorch."""

from __future__ import annotations

from torch import Tensor

from kd_core.inference.asking import BATCH_TOKENS, ask
from kd_core.inference.batches import Batch, Encoded
from kd_core.tasks import heads
from kd_core.tasks.units import Units
from kd_core.teachers.model import Teacher


def probabilities(teacher: Teacher, encoded: Encoded, batch_tokens: int = BATCH_TOKENS) -> Units:
    """[ΣU, C] of all rows, in their order, in the teacher's own arithmetic."""

    def answer(batch: Batch) -> Tensor:
        return heads.of(teacher.kind).probabilities(teacher.logits(batch))

    return ask(teacher.model, answer, encoded, teacher.tokenizer.pad_token_id, batch_tokens)
