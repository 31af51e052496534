"""Answers of a model with early exits, and how any threshold would change them; numpy only.

The probabilities of every exit are computed once. From them `simulate` gives the outcome of any threshold without
running the model again (docs/methods.md §2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kd_core.config.data import Kind
from kd_core.runtime.arrays import Booleans, Integers
from kd_core.serving.exits.thresholds import Thresholds, first_exit
from kd_core.tasks import decide
from kd_core.tasks.units import Units

Probabilities = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Predictions:
    """Answers to N texts."""

    probabilities: Probabilities
    """[ΣU, C], in the order of the model's labels."""
    exit_layer: Integers
    """[N], the layer (1-based) after which each text was answered."""
    entropy: npt.NDArray[np.float32]
    """[N], normalised entropy of the answer, in [0, 1]; 0 is certain."""
    kind: Kind
    offsets: Integers | None = None
    """[N + 1], where each text's units begin; None: a text is one unit."""

    @classmethod
    def joined(cls, parts: Sequence[Predictions]) -> Predictions:
        """The answers of one model to the texts of all parts (at least one), in order."""
        if len(parts) == 1:
            return parts[0]
        units = Units.joined([part.units for part in parts])
        return cls(
            units.values,
            np.concatenate([part.exit_layer for part in parts]),
            np.concatenate([part.entropy for part in parts]),
            parts[0].kind,
            None if parts[0].offsets is None else units.offsets,
        )

    @property
    def units(self) -> Units:
        """The probabilities by text."""
        return _units(self.probabilities, self.offsets)

    @property
    def answers(self) -> Units:
        """The decisions, in the form that gold has."""
        return decide.of(self.kind).decisions(self.units)


@dataclass(frozen=True)
class Exits:
    """The answers of every exit to N texts."""

    layers: tuple[int, ...]
    """[E], the layers (1-based) that have an exit, ascending; the last is the full model."""
    probabilities: Probabilities
    """[ΣU, E, C]"""
    kind: Kind
    offsets: Integers | None = None
    """[N + 1], where each text's units begin; None: a text is one unit."""

    @property
    def uncertainty(self) -> npt.NDArray[np.float32]:
        """[N, E], uncertainty of each exit's answer, in [0, 1]."""
        return np.stack([decide.of(self.kind).uncertainty(self.only(layer)) for layer in self.layers], axis=1)

    @property
    def disagrees(self) -> Booleans:
        """[N, E − 1], whether an early exit's decision differs from the full model's on any unit of a text."""
        kind = decide.of(self.kind)
        *early, full = (kind.decisions(self.only(layer)) for layer in self.layers)
        return np.array([~kind.same(each, full) for each in early], dtype=bool).reshape(len(early), len(full)).T

    def simulate(self, thresholds: Thresholds) -> Predictions:
        """The outcome of adaptive inference: each text leaves at its first exit with U < its threshold."""
        uncertainty = self.uncertainty
        first = first_exit(uncertainty[:, :-1], thresholds)
        rows, units = np.arange(len(first)), _units(self.probabilities, self.offsets)
        chosen = units.values[np.arange(len(units.values)), first[units.row_of_unit]]
        layers = np.asarray(self.layers, dtype=np.int64)
        return Predictions(chosen, layers[first], uncertainty[rows, first], self.kind, self.offsets)

    def only(self, layer: int) -> Units:
        """[ΣU, C], the answers of one exit, as if every text left there."""
        return _units(self.probabilities[:, self.layers.index(layer)], self.offsets)


def _units(values: Probabilities, offsets: Integers | None) -> Units:
    return Units.one_a_row(values) if offsets is None else Units(values, offsets)


def shares(exit_layer: Integers, layers: Sequence[int]) -> dict[str, float]:
    """Layer → share of the texts answered there; every exit has an entry."""
    return {str(layer): float(np.mean(exit_layer == layer)) for layer in layers}
