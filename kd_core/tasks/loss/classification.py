"""Classification: cross-entropy, and divergences summed over classes."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from kd_core.tasks.encode.gold import NO_LABEL
from kd_core.tasks.heads import classification
from kd_core.tasks.loss.divergences import Divergences, mean

_divergences = Divergences(classification)
soft, average, divergence = _divergences.soft, _divergences.average, _divergences.divergence


def hard(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of logits [B, U, C] and targets [B, U], over labelled rows."""
    flat = F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=NO_LABEL, reduction="none")
    return mean(flat.reshape(targets.shape), mask, targets[:, 0] != NO_LABEL)
