"""Decoders and branches over the units of a text, and the combined answer of several decoders; the same for all kinds.

A kind says what a unit's features are (`gather`) and what logits stand for (`probabilities`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kd_core.config.student import Combine, Pooling
from kd_core.runtime.errors import ParamsError
from kd_core.tasks.heads.protocol import Batch, Heads

GOLD = "gold"
"""Name of the decoder that learns from gold labels."""


def pool(hidden_states: Tensor, attention_mask: Tensor, pooling: Pooling) -> Tensor:
    """[B, L, H] → [B, H]: the mean over unpadded tokens, or the first token."""
    if pooling == "cls":
        return hidden_states[:, 0]
    mask = attention_mask.unsqueeze(-1).to(hidden_states.dtype)
    return (hidden_states * mask).sum(1) / mask.sum(1).clamp_min(1)


class Decoder(nn.Module):
    """Units → dropout → linear: one decoder of the multi-decoder layer (docs/methods.md §1)."""

    def __init__(self, hidden: int, outputs: int, dropout: float, pooling: Pooling, heads: Heads) -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, outputs)
        self._gather = heads.gather  # a function, unlike a module, may be copied

    def forward(self, hidden: Tensor, batch: Batch) -> Tensor:
        """[B, L, H] and the batch that they are of → logits [B, U, C]."""
        units = self._gather(hidden, batch, self.pooling)
        return _by_unit(self.linear(self.dropout(units.flatten(0, 1))), units)


class Branch(nn.Module):
    """Units → linear to a narrow width → tanh → linear: an exit after an inner layer (docs/methods.md §2)."""

    def __init__(self, hidden: int, outputs: int, width: int, pooling: Pooling, heads: Heads) -> None:
        super().__init__()
        self.pooling: Pooling = pooling
        self.narrow = nn.Linear(hidden, width)
        self.linear = nn.Linear(width, outputs)
        self._gather = heads.gather

    def gathered(self, hidden: Tensor, batch: Batch) -> Tensor:
        """What `forward` takes: [B, L, H] and the batch that they are of → [B, U, H]."""
        return self._gather(hidden, batch, self.pooling)

    def forward(self, units: Tensor) -> Tensor:
        """[B, U, H] → logits [B, U, C]."""
        return _by_unit(self.linear(torch.tanh(self.narrow(units.flatten(0, 1)))), units)


def _by_unit(flat: Tensor, units: Tensor) -> Tensor:
    """[B · U, C] → [B, U, C]; a product of two axes stays one node of a graph."""
    return flat.reshape(units.shape[0], units.shape[1], flat.shape[-1])


def combine(logits: Mapping[str, Tensor], mode: Combine, weights: Mapping[str, float], heads: Heads) -> Tensor:
    """The model's answer from its decoders' logits (each […, C]): probabilities in float32 (docs/methods.md §1).

    probabilities: weighted mean of probabilities; logits: those of the weighted mean of logits; gold: the gold decoder
    alone. Weights are normalised; none given: uniform. Raises ParamsError if a decoder or weight is missing.
    """
    if mode == "gold":
        if GOLD not in logits:
            raise ParamsError(f"student.combine: gold, but the decoders are {', '.join(logits)}")
        return heads.probabilities(logits[GOLD])
    if weights and not set(logits) <= set(weights):
        raise ParamsError(f"no decoder weight for {', '.join(sorted(set(logits) - set(weights)))}")
    shares = {name: weights[name] if weights else 1.0 for name in logits}
    total = sum(shares.values())
    if not total > 0 or min(shares.values()) < 0:
        raise ParamsError(f"decoder weights must be ≥ 0 with a positive sum, got {shares}")
    values = [(share / total, logits[name].float()) for name, share in shares.items()]
    if mode == "logits":
        return heads.probabilities(torch.stack([share * value for share, value in values]).sum(0))
    return torch.stack([share * heads.probabilities(value) for share, value in values]).sum(0)
