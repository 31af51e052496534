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
    """A number: fresh layers of that count; a list: copies of these layers of the base."""
    hidden: Count | None = None
    """Hidden units of fresh layers; the base's word embeddings are reduced to it by PCA. None: the base's."""
    heads: Count | None = None
    """Attention heads of fresh layers; none: the base's."""
    intermediate: Count | None = None
    """Feed-forward units of fresh layers; none: 4 × hidden."""
    dropout: Fraction = 0.1
    pooling: Pooling = "mean"
    combine: Combine = "probabilities"
    """How the decoders' answers become the model's, everywhere the model's answer is meant."""
    seed: int = 0

    @model_validator(mode="after")
    def _copied_layers_keep_their_size(self) -> StudentParams:
        if isinstance(self.layers, tuple) and any((self.hidden, self.heads, self.intermediate)):
            raise ValueError("layers copied from the base keep its size: drop hidden, heads and intermediate")
        return self
