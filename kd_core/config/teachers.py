"""Parameters of teachers."""

from __future__ import annotations

from kd_core.config.base import Count, Section
from kd_core.config.data import Role
from kd_core.config.names import LabelName
from kd_core.config.training import Optimisation, Precision


class TeacherParams(Section):
    """One teacher, under its name in `teachers`."""

    weights: str
    """`pkg://package/folder`, a hub id, a folder, `s3://…` or `models:/name@alias`."""
    tokenizer: str | None = None
    """Address of the tokenizer; null: the one beside the weights."""
    data: Role = "reference"
    """The data set (and so the task) that the teacher belongs to."""
    labels: dict[LabelName, LabelName] | None = None
    """The teacher's label → ours; null: the names in its config, which must then be ours. Ignored if fine-tuned."""
    layers: tuple[int, ...] | None = None
    """Keep only these encoder layers (from 0), in this order: another structure from the same weights.

    An ALBERT's layers share their weights: as many repetitions are kept. A ModernBERT's list begins with 0."""
    max_length: Count | None = None
    """Tokens a text is cut to; null: the task's."""
    fine_tune: Optimisation | None = None
    """How to fine-tune it on the gold labels; null: it is used as it is."""
    precision: Precision = "fp32"
    """Arithmetic of scoring."""
