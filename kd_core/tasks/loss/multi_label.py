"""Multi-label: one independent decision for each label, binary cross-entropies and Bernoulli divergences.

They are summed over the labels as the others are over classes.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from kd_core.tasks.encode.gold import NO_LABEL
from kd_core.tasks.heads import multi_label
from kd_core.tasks.loss.divergences import Divergences, mean

_divergences = Divergences(multi_label)
soft, average, divergence = _divergences.soft, _divergences.average, _divergences.divergence


def hard(logits: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """Binary cross-entropy of logits and targets [B, U, C], summed over labels, over labelled rows."""
    known = targets != NO_LABEL
    wanted = targets.clamp_min(0).float()
    each = F.binary_cross_entropy_with_logits(logits.float(), wanted, weight=known.float(), reduction="none")
    return mean(each, mask, known[:, 0, 0])
