"""Exit thresholds, one for each early exit, and the exit at which a text leaves; numpy only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kd_core.runtime.arrays import Integers
from kd_core.runtime.errors import ParamsError

Thresholds = float | Sequence[float]
"""Uncertainty below which a text leaves: one number for all early exits, or one for each, from the first on."""

Uncertainties = npt.NDArray[np.float32]


def per_exit(thresholds: Thresholds, early_exits: int) -> tuple[float, ...]:
    """One threshold for each early exit.

    :param early_exits: exits before the last layer, which always answers
    :raises ParamsError: wrong number of thresholds, or one outside [0, 1]
    """
    single = isinstance(thresholds, int | float)
    given = (float(thresholds),) if isinstance(thresholds, int | float) else tuple(map(float, thresholds))
    if wrong := [value for value in given if not 0 <= value <= 1]:
        raise ParamsError(f"threshold {wrong[0]}: it is a normalised entropy, from 0 (full model) to 1")
    if not single and len(given) != early_exits:
        raise ParamsError(f"{len(given)} thresholds for {early_exits} early exits: give one for each, or one for all")
    return given * early_exits if single else given


def first_exit(uncertainty: Uncertainties, thresholds: Thresholds) -> Integers:
    """[N], the exit (from 0; the last layer's is E − 1) at which each text leaves: the first with U < its threshold.

    The comparison is in float32, the precision of the models' answers.

    :param uncertainty: [N, E − 1], that of every early exit
    """
    rows, early = uncertainty.shape
    leaves = np.ones((rows, early + 1), dtype=bool)
    leaves[:, :early] = uncertainty < np.asarray(per_exit(thresholds, early), dtype=np.float32)
    return np.asarray(leaves.argmax(1), dtype=np.int64)
