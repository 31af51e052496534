"""Keeps padding out of the layers: they compute one row for each token, and only attention sees texts.

A batch is padded to its longest text, and layers would multiply the padding with their weights too. So the tokens
[T, H] are taken out of the padded batch [B, L, H] before the layers and put back after them; in between, only queries,
keys and values are padded. This changes no answer unless the layers themselves use positions
(`Architecture.positions_in_layers`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import AttentionInterface, AttentionMaskInterface

ATTENTION = "kd_packed"
"""Name of the attention below in a config of transformers."""

MASKED = -60.0
"""Added to the score of padding. e⁻⁶⁰ is negligible beside 1 in fp32, and it is no denormal number. onnxruntime turns
lower scores into denormal numbers, with which a processor computes more slowly."""


class Layout(NamedTuple):
    """Places of the tokens of a batch; it passes through the layers instead of an attention mask."""

    mask: Tensor
    """[B, L], 1 where a text has a token."""
    places: Tensor
    """[T], place of each token in the padded batch, counted along its rows."""
    padded: Tensor
    """[B, L], the token at each place; arbitrary at padding."""

    def pack(self, hidden: Tensor) -> Tensor:
        """[B, L, H] → [T, H]"""
        return hidden.flatten(0, 1).index_select(0, self.places)

    def unpack(self, tokens: Tensor) -> Tensor:
        """[T, H] → [B, L, H]; the values at padding are arbitrary."""
        return embedding(self.padded, tokens)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention of the queries, keys and values that transformers' layers make from [T, H]: [T, head size, heads]."""
    heads, size = query.shape[2], query.shape[1]
    padded = (layout.unpack(each.transpose(1, 2).flatten(1)) for each in (query, key, value))
    attended: Tensor = torch.onnx.ops.symbolic(
        "com.microsoft::MultiHeadAttention",
        (*padded, None, layout.mask.to(torch.int32)),
        attrs={"num_heads": heads, "scale": float(scaling), "mask_filter_value": MASKED},
        dtype=query.dtype,
        shape=(*layout.mask.shape, heads * size),
        version=1,
    )
    return layout.pack(attended).reshape(-1, heads, size), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, lambda *, attention_mask, **_: attention_mask)
