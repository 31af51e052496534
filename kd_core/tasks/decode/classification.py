"""Classification: decoders and branches over a pooled text, and the combined answer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd_core.config.data import Kind
from kd_core.config.student import Combine, Pooling
from kd_core.runtime.errors import ParamsError
from kd_core.tasks.decode.distributions import probabilities

GOLD = "gold"
"""Name of the decoder that learns from gold labels."""


def pool(hidden_states: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """[B, L, H] → [B, H]: the mean over unpadded tokens, or the first token."""
    if pooling == "cls":
        return hidden_states[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden_states.dtype)
    return (hidden_states * mask).sum(1) / mask.sum(1).clamp_min(1)


class Decoder(nn.Module):
    """Pooling → dropout → linear: one decoder of the multi-decoder layer (docs/methods.md §1)."""

    def __init__(self, hidden: int, labels: int, dropout: float, pooling: Pooling) -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, labels)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """[B, L, H], [B, L] → logits [B, C]."""
        return self.linear(self.dropout(pool(hidden_states, attention_mask, self.pooling)))  # type: ignore[no-any-return]


class Branch(nn.Module):
    """Pooling → linear to a narrow width → tanh → linear: an exit after an inner layer (docs/methods.md §2)."""

    def __init__(self, hidden: int, labels: int, width: int, pooling: Pooling) -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.narrow = nn.Linear(hidden, width)
        self.linear = nn.Linear(width, labels)

    def forward(self, hidden_states: Tensor, attention_mask: Tensor) -> Tensor:
        """[B, L, H], [B, L] → logits [B, C]."""
        pooled = pool(hidden_states, attention_mask, self.pooling)
        return self.linear(torch.tanh(self.narrow(pooled)))  # type: ignore[no-any-return]


def combine(
    logits: Mapping[str, Tensor], mode: Combine, weights: Mapping[str, float], kind: Kind = "classification"
) -> Tensor:
    """The model's answer from its decoders' logits (each [B, C]): probabilities [B, C] in float32 (docs/methods.md §1).

    probabilities: weighted mean of probabilities; logits: those of the weighted mean of logits; gold: the gold decoder
    alone. Weights are normalised; none given: uniform. Raises ParamsError if a decoder or weight is missing.
    """
    if mode == "gold":
        if GOLD not in logits:
            raise ParamsError(f"student.combine: gold, but the decoders are {', '.join(logits)}")
        return probabilities(logits[GOLD], kind)
    if weights and not set(logits) <= set(weights):
        raise ParamsError(f"no decoder weight for {', '.join(sorted(set(logits) - set(weights)))}")
    shares = {name: weights[name] if weights else 1.0 for name in logits}
    total = sum(shares.values())
    if not total > 0 or min(shares.values()) < 0:
        raise ParamsError(f"decoder weights must be ≥ 0 with a positive sum, got {shares}")
    values = [(share / total, logits[name].float()) for name, share in shares.items()]
    if mode == "logits":
        return probabilities(torch.stack([share * value for share, value in values]).sum(0), kind)
    return torch.stack([share * probabilities(value, kind) for share, value in values]).sum(0)
