"""Parameters of the student's structure and of how its decoders are combined."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from kd_core.config.base import Count, Fraction, Section

Combine = Literal["probabilities", "logits", "gold"]
Pooling = Literal["mean", "cls"]

MOST_BIGRAMS = 1_000_000
"""128 wide they are half a gigabyte."""


class StudentParams(Section):
    """The encoder and how its answers are read."""

    base: str
    """Address of the model that gives tokenizer, embeddings and, for `layers`, the layers."""
    layers: Annotated[int, Field(ge=0)] | tuple[int, ...] = 2
    """A number: fresh layers of that count; a list: copies of these layers (from 0) of the base. 0: the static student.

    An ALBERT's layers share their weights: a list keeps as many repetitions as it has numbers. A ModernBERT's begins
    with 0. The static student answers from the weighted mean of its tokens' embeddings, one small feed-forward layer
    and its decoders: no word order, no context, several times faster than the smallest layers."""
    hidden: Count | None = None
    """Hidden units of fresh layers, a multiple of `heads`, or of a static student; null: the base's. Where the base is
    wider, its word embeddings (static: what it makes of each token alone) are reduced to it by PCA."""
    heads: Count | None = None
    """Attention heads of fresh layers; null: the base's."""
    intermediate: Count | None = None
    """Feed-forward units of fresh layers, or of a static student; null: 4 × hidden."""
    bigrams: Annotated[int, Field(ge=0, le=MOST_BIGRAMS)] = 0
    """Static student: embeddings that pairs of neighbouring tokens share by hashing; 0: single tokens only."""
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

    @model_validator(mode="after")
    def _static_students_have_no_attention(self) -> StudentParams:
        if self.layers == 0 and self.heads:
            raise ValueError("layers: 0 is a static student, which has no attention: set heads to null")
        if self.layers == 0 and self.pooling == "cls":
            raise ValueError("layers: 0 is a static student, which takes the mean of the tokens: set pooling to mean")
        if self.layers != 0 and self.bigrams:
            raise ValueError("bigrams belong to the static student (layers: 0): set bigrams to 0")
        return self
