"""Parameters of the student's structure and of how its decoders are combined."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from kd_core.config.base import Count, Fraction, Section

Combine = Literal["probabilities", "logits", "gold"]
Pooling = Literal["mean", "cls"]


class StudentParams(Section):
    """The encoder and how its answers are read."""

    base: str
    """Address of the model that gives tokenizer, embeddings and, for `layers`, the layers."""
    layers: Count | tuple[int, ...] = 2
    """A number: fresh layers of that count; a list: copies of these layers (from 0) of the base.

    An ALBERT's layers share their weights: a list keeps as many repetitions as it has numbers. A ModernBERT's begins
    with 0."""
    hidden: Count | None = None
    """Hidden units of fresh layers, a multiple of `heads`; the base's word embeddings are reduced to it by PCA where
    they are wider; null: the base's."""
    heads: Count | None = None
    """Attention heads of fresh layers; null: the base's."""
    intermediate: Count | None = None
    """Feed-forward units of fresh layers; null: 4 × hidden."""
    dropout: Fraction = 0.1
    """Share of units that are switched off in training, in fresh layers and before decoders."""
    pooling: Pooling = "mean"
    """How the tokens of a text become one vector: their mean, or the first token's state."""
    combine: Combine = "probabilities"
    """How the decoders' answers become the model's: mean probabilities, mean logits, or gold's decoder alone."""
    seed: int = 0
    """Of fresh weights."""

    @model_validator(mode="after")
    def _copied_layers_keep_their_size(self) -> StudentParams:
        if isinstance(self.layers, tuple) and any((self.hidden, self.heads, self.intermediate)):
            raise ValueError("layers copied from the base keep its size: drop hidden, heads and intermediate")
        return self

    @model_validator(mode="after")
    def _heads_divide_the_hidden_units(self) -> StudentParams:
        if self.hidden and self.heads and self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is no multiple of heads {self.heads}")
        return self
