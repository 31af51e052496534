"""What each aspect of a task must offer; no torch at import.

docs/tasks.md tells how the aspects belong together. B rows of a batch, N rows in all, U units a row (padded in a batch;
ΣU of all rows otherwise, see kd_core.tasks.units), C outputs, H hidden units, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kd_core.tasks.units import Booleans, Units


class Decide(Protocol):
    """From probabilities to decisions and what they count; numpy only."""

    @property
    def MAIN_METRIC(self) -> str:  # noqa: N802 - a constant of a module
        """Key of the main metric in documents."""

    @property
    def METRIC_NAME(self) -> str:  # noqa: N802
        """The main metric in a person's words."""

    def decisions(self, probabilities: Units) -> Units:
        """Decisions in the form that gold has, from probabilities [ΣU, C]."""

    def counts(self, given: Units, gold: Units) -> NDArray[np.float64]:
        """[N, K] numbers of each row whose sums `metric` takes, from decisions and gold."""

    def metric(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        """The main metric, higher is better, of sums of counts: [..., K] → [...]."""

    def same(self, given: Units, other: Units) -> Booleans:
        """[N], whether two models decide alike on a row."""

    def uncertainty(self, probabilities: Units) -> NDArray[np.float32]:
        """[N] in [0, 1], 0 is certain."""

    def named(self, given: Units, labels: Sequence[str]) -> list[Any]:
        """[N] decisions as they stand in tables, in the form of a gold label."""

    def table(self, probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
        """Columns of N answers, `label` and `probability`, for predictions, their log and the signature."""

    def shares(self, probabilities: Units, labels: Sequence[str]) -> dict[str, Any]:
        """Label → [N], its probability; for those who ask for the probability of every label."""
