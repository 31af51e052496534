"""Padding stays outside of the layers: what they compute is one row a token, and attention alone sees texts.

A batch of texts of unlike lengths is padded to its longest, and layers would multiply padding with their weights, too.
So tokens are taken out of the padded batch [B, L, H] before the layers, [T, H], and put back behind them; only queries,
keys and values are padded in between. That changes no answer where layers have no part in where a token stands
(`Architecture.positions_in_layers`).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import AttentionInterface, AttentionMaskInterface

ATTENTION = "kd_packed"
"""What the attention below is called in a config of transformers."""

MASKED = -60.0
"""Added to the score of padding. e⁻⁶⁰ is nothing beside 1 in fp32; but it is no denormal number, as what onnxruntime
makes of lower scores is, and with those a processor computes more slowly."""


class Layout(NamedTuple):
    """Where the tokens of a batch are; goes through the layers in the place of their attention mask."""

    mask: Tensor
    """[B, L], 1 where a text has a token."""
    places: Tensor
    """[T], place of each token in the padded batch, counted along its rows."""
    padded: Tensor
    """[B, L], the token at each place; any where there is padding."""

    def pack(self, hidden: Tensor) -> Tensor:
        """[B, L, H] → [T, H]"""
        return hidden.flatten(0, 1).index_select(0, self.places)

    def unpack(self, tokens: Tensor) -> Tensor:
        """[T, H] → [B, L, H]; what stands in padding means nothing."""
        return embedding(self.padded, tokens)


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Of queries, keys and values as transformers' layers make them of [T, H]: [T, size of a head, heads]."""
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
