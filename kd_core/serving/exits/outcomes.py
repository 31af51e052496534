"""What comes out of a model with early exits, and what any threshold would make of it; numpy only.

From the probabilities of every exit, computed once, `simulate` tells the outcome of any threshold without running the
model again (docs/methods.md §2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_core.config.data import MULTI_LABEL, Kind
from kd_core.serving.exits.thresholds import Thresholds, first_exit
from kd_core.tasks.decisions import Integers, decisions

Probabilities = npt.NDArray[np.float32]

_SMALLEST = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Predictions:
    """Answers to N texts."""

    probabilities: Probabilities
    """[N, C], in the order of the model's labels."""
    exit_layer: npt.NDArray[np.int64]
    """[N], the layer (1-based) after which each text was answered."""
    entropy: npt.NDArray[np.float32]
    """[N], normalised entropy of the answer, in [0, 1]; 0 is certain."""
    kind: Kind = "classification"

    @property
    def answers(self) -> Integers:
        """[N], index of the predicted label; multi-label [N, C], 1 for each label that is given."""
        return decisions(self.probabilities, self.kind)


@dataclass(frozen=True)
class Exits:
    """The answers of every exit to N texts."""

    layers: tuple[int, ...]
    """[E], the layers (1-based) that have an exit, ascending; the last is the full model."""
    probabilities: Probabilities
    """[N, E, C]"""
    kind: Kind = "classification"

    @property
    def uncertainty(self) -> npt.NDArray[np.float32]:
        """[N, E], of each exit's answer, in [0, 1]."""
        return entropy(self.probabilities, self.kind)

    @property
    def disagrees(self) -> npt.NDArray[np.bool_]:
        """[N, E − 1], whether the answer of an early exit differs from the full model's; multi-label: in any label."""
        answers = decisions(self.probabilities, self.kind)
        differs = answers[:, :-1] != answers[:, -1:]
        return np.asarray(differs if self.kind != MULTI_LABEL else differs.any(-1), dtype=bool)

    def simulate(self, thresholds: Thresholds) -> Predictions:
        """The outcome of adaptive inference: each text leaves at its first exit with U < its threshold."""
        uncertainty = self.uncertainty
        first = first_exit(uncertainty[:, :-1], thresholds)
        rows = np.arange(len(first))
        layers = np.asarray(self.layers, dtype=np.int64)
        return Predictions(self.probabilities[rows, first], layers[first], uncertainty[rows, first], self.kind)

    def only(self, layer: int) -> Probabilities:
        """[N, C], the answers of one exit, as if all texts left there."""
        return self.probabilities[:, self.layers.index(layer)]


def entropy(probabilities: Probabilities, kind: Kind = "classification") -> npt.NDArray[np.float32]:
    """U = −Σ_c p_c log p_c ÷ log C over the last axis, in [0, 1] (docs/methods.md §2).

    Multi-label: the mean over labels of the binary entropy ÷ log 2.
    """
    if kind == MULTI_LABEL:
        by_label = entropy(np.stack([probabilities, 1 - probabilities], axis=-1))
        return np.asarray(by_label.mean(-1), dtype=np.float32)
    logs = np.log(np.maximum(probabilities, _SMALLEST))  # of 0 they are multiplied with 0
    values = (probabilities * logs).sum(-1) / -math.log(probabilities.shape[-1])
    normalised: npt.NDArray[np.float32] = np.minimum(np.maximum(values, 0.0), 1.0).astype(np.float32)
    return normalised


def shares(exit_layer: npt.NDArray[np.int64], layers: Sequence[int]) -> dict[str, float]:
    """Layer → share of the texts that were answered there; every exit has an entry."""
    return {str(layer): float(np.mean(exit_layer == layer)) for layer in layers}
