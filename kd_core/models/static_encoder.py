"""The static encoder: a text is the weighted mean of its tokens' embeddings, then one small feed-forward layer.

It has no layers that look from token to token, so what it costs is little more than cutting texts into tokens.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel

_FIRST, _SECOND, _PRIME = 1_000_003, 7_919, 2**31 - 1
"""Of the hash of two token ids; products of ids up to 2³¹ fit into 64 bits."""


class StaticConfig(PreTrainedConfig):  # type: ignore[misc]
    """Sizes of a static encoder."""

    model_type = "kd_static"

    vocab_size: int = 1
    hidden_size: int = 128
    intermediate_size: int = 512
    bigrams: int = 0
    """Buckets that pairs of neighbouring tokens are hashed to; 0: single tokens only."""
    dropout: float = 0.1
    initializer_range: float = 0.02


class StaticEncoder(PreTrainedModel):  # type: ignore[misc]
    """Token ids → one state a text. Its embeddings get sparse gradients: a step touches the rows of its texts only."""

    config: StaticConfig
    config_class = StaticConfig
    base_model_prefix = ""

    def __init__(self, config: StaticConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.tokens = nn.Embedding(config.vocab_size, size, sparse=True)
        self.weights = nn.Parameter(torch.ones(config.vocab_size))
        self.bigrams = nn.Embedding(config.bigrams, size, sparse=True) if config.bigrams else None
        self.norm = nn.LayerNorm(size)
        self.widen = nn.Linear(size, config.intermediate_size)
        self.narrow = nn.Linear(config.intermediate_size, size)
        self.dropout = nn.Dropout(config.dropout)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of tokens."""
        return self.tokens

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **others: Any) -> Tensor:
        """[B, L] → [B, 1, H]: a sequence of one state, the text's. A text without tokens has a state, too."""
        used = attention_mask.to(self.tokens.weight.dtype)
        mean = used / used.sum(1, keepdim=True).clamp_min(1)
        weights = F.embedding(input_ids, self.weights.unsqueeze(1)).squeeze(-1)
        bag = (weights * mean).unsqueeze(1) @ self.tokens(input_ids)
        if self.bigrams is not None:
            pairs = buckets_of(input_ids[:, :-1], input_ids[:, 1:], self.config.bigrams)
            bag = bag + mean[:, 1:].unsqueeze(1) @ self.bigrams(pairs)
        state: Tensor = self.dropout(self.norm(bag))
        further: Tensor = self.narrow(self.dropout(F.gelu(self.widen(state))))
        return state + further


def buckets_of(first: Tensor, second: Tensor, count: int) -> Tensor:
    """The bucket, from 0, of each pair of neighbouring token ids: the same in PyTorch and in ONNX."""
    return (first * _FIRST + second * _SECOND) % _PRIME % count


def first_weights(table: Tensor, bigrams: int) -> dict[str, Tensor]:
    """The weights that a static encoder begins with: these embeddings, and bigrams that say nothing yet."""
    return {"tokens.weight": table} | ({"bigrams.weight": torch.zeros(bigrams, table.shape[1])} if bigrams else {})


AutoConfig.register(StaticConfig.model_type, StaticConfig)
AutoModel.register(StaticConfig, StaticEncoder)
