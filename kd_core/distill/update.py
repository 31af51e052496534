"""Between the stages: the initial decoders are replaced by the target decoders, the encoder is carried over.

docs/methods.md §1 (update).
"""

from __future__ import annotations

from collections.abc import Sequence

from kd_core.config.data import Kind
from kd_core.config.student import Combine
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import ParamsError
from kd_core.tasks.heads.modules import GOLD


def update(
    model: StudentModel,
    teachers: Sequence[str],
    labels: Sequence[str],
    combine: Combine,
    kind: Kind,
    seed: int = 0,
) -> None:
    """Give `model`, in place, a first target decoder for gold labels and a second one for each of `teachers`.

    All are for the task's labels and of its kind, their weights drawn by `seed`. No weight of the encoder changes.
    Raises ParamsError if a teacher has the gold decoder's name.
    """
    if GOLD in teachers:
        raise ParamsError(f"finetune.teachers: {GOLD!r} is the name of the decoder for gold labels; rename the teacher")
    model.replace_decoders({name: list(labels) for name in (GOLD, *teachers)}, list(labels), combine, kind, seed)
