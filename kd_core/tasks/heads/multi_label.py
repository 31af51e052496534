"""Multi-label: units and models as in classification; logits are those of a sigmoid for each label."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from kd_core.tasks.heads import classification
from kd_core.tasks.heads.probes import one_vs_rest

BRANCHES = classification.BRANCHES
PROBLEM_TYPE = "multi_label_classification"
AUTO_CLASS = classification.AUTO_CLASS

gather = classification.gather
from_transformers = classification.from_transformers
as_transformers = classification.as_transformers
pipeline = classification.pipeline
probe = one_vs_rest


def probabilities(logits: Tensor) -> Tensor:
    """[…, C] → […, C] in float32: a sigmoid for each label."""
    return logits.float().sigmoid()


def log_distributions(logits: Tensor) -> Tensor:
    """Logits […, C] → log-probabilities in float32 […, C, 2] of "applies" and "does not"."""
    return torch.stack([F.logsigmoid(logits.float()), F.logsigmoid(-logits.float())], dim=-1)


def log_of(given: Tensor) -> Tensor:
    """Probabilities […, C] → what `log_distributions` gives for their logits; finite also for 0 and 1."""
    return classification.log_of(torch.stack([given, 1 - given], dim=-1))


def as_logits(logs: Tensor) -> Tensor:
    """What `log_distributions` gives → logits […, C] with these distributions: log-odds."""
    return logs[..., 0] - logs[..., 1]


def logits_of(given: Tensor) -> Tensor:
    """Logits […, C] whose probabilities are given: their log-odds."""
    return as_logits(log_of(given))
