"""What logits stand for: one distribution over the classes, or for each label one over "applies" and "does not"."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from kd_core.config.data import MULTI_LABEL, Kind


def probabilities(logits: Tensor, kind: Kind) -> Tensor:
    """Logits [B, C] → probabilities [B, C] in float32: softmax over the classes; multi-label: a sigmoid for each."""
    return logits.float().sigmoid() if kind == MULTI_LABEL else logits.float().softmax(-1)


def log_distributions(logits: Tensor, kind: Kind) -> Tensor:
    """Logits [B, C] → log-probabilities in float32 [B, C], summing to one over the last axis; multi-label [B, C, 2]."""
    if kind == MULTI_LABEL:
        return torch.stack([F.logsigmoid(logits.float()), F.logsigmoid(-logits.float())], dim=-1)
    return F.log_softmax(logits.float(), dim=-1)


def log_of(given: Tensor, kind: Kind) -> Tensor:
    """Probabilities [B, C] → what `log_distributions` gives for their logits; finite also for 0 and 1."""
    if kind == MULTI_LABEL:
        given = torch.stack([given, 1 - given], dim=-1)
    return given.clamp_min(torch.finfo(torch.float32).tiny).log()


def as_logits(logs: Tensor, kind: Kind) -> Tensor:
    """What `log_distributions` gives → logits [B, C] with these distributions: the same; multi-label: log-odds."""
    return logs[..., 0] - logs[..., 1] if kind == MULTI_LABEL else logs


def logits_of(given: Tensor, kind: Kind) -> Tensor:
    """Logits [B, C] whose probabilities [B, C] are given: their logarithms; multi-label: their log-odds."""
    return as_logits(log_of(given, kind), kind)


def uncertainty(given: Tensor, kind: Kind = "classification") -> Tensor:
    """Probabilities [B, C] → [B] in [0, 1], 0 is certain (docs/methods.md §2).

    Entropy ÷ log C; multi-label: the mean over labels of the binary entropy ÷ log 2.
    """
    if kind == MULTI_LABEL:
        by_label: Tensor = torch.special.entr(torch.stack([given, 1 - given], dim=-1)).sum(-1)
        return (by_label.mean(-1) / math.log(2)).clamp(0.0, 1.0)
    entropy: Tensor = torch.special.entr(given).sum(-1)
    return (entropy / math.log(given.shape[-1])).clamp(0.0, 1.0)
