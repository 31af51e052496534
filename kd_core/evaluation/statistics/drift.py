"""Drift without labels: do texts in service leave at the same exits, as certainly, as the calibration texts?

A prediction log gets two two-sample tests: exit layers (chi-square) and uncertainties of the answers (Kolmogorov and
Smirnov), with Holm's correction. With many answers any difference is significant, so drift also needs a minimum effect
size. Answers to similar texts are not independent: p-values are then too small, but the effect size still holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from kd_core.evaluation.statistics.comparison import holm
from kd_core.runtime.arrays import Floats, Integers
from kd_core.runtime.errors import InvalidDataError, TryAgainError
from kd_core.serving.exits.thresholds import Uncertainties, first_exit
from kd_core.serving.prediction_log import MODEL, SCHEMA

MINIMUM_ROWS = 100
"""Least answers in the log, and least rows in the reference, for a comparison."""

_LEAST_EXPECTED = 5
"""Least expected count of a chi-square cell; exits with fewer are merged with the next."""

Counts = Integers


@dataclass(frozen=True)
class Test:
    """One comparison of the log with the reference."""

    p_value: float
    """After Holm's correction."""
    effect: float
    """Exit layers: total variation, the share of answers that would have to change their exit. Uncertainty: the largest
    distance between the two distribution functions. Both are in [0, 1]."""
    drifted: bool


@dataclass(frozen=True)
class Drift:
    """The result of the comparison."""

    answers: int
    reference_rows: int
    thresholds: tuple[float, ...]
    """Thresholds of the compared answers: those of most requests."""
    other_thresholds: int
    """Number of answers left out because their request had other thresholds."""
    exits: dict[str, tuple[float, float]]
    """Layer → share of the reference and share of the log."""
    median_entropy: tuple[float, float]
    """Median of the reference and of the log."""
    exit_layers: Test
    entropy: Test

    @property
    def drifted(self) -> bool:
        """Whether either comparison shows drift."""
        return self.exit_layers.drifted or self.entropy.drifted


def read_log(folder: Path, model: str, since: datetime) -> pd.DataFrame:
    """The answers of one model since a time: exit_layer, entropy, thresholds (a tuple).

    Files of other models are skipped: while a new version is rolled out, both versions write.

    :param model: the model's identity
    :raises InvalidDataError: there is no log, it cannot be read, or it has no file of this model
    """
    files = sorted(folder.rglob("*.parquet")) if folder.is_dir() else []
    if not files:
        raise InvalidDataError(f"{folder}: no prediction log; write one with `kd predict --log` or KD_PREDICTION_LOG")
    found = [answers for path in files if (answers := _answers_of(model, path, since)) is not None]
    if not found:
        raise InvalidDataError(
            f"{folder}: none of its {len(files)} files was logged by this model; give the version that serves "
            "(--model), or the folder that it logs to"
        )
    rows: pd.DataFrame = pa.concat_tables(found).to_pandas()
    rows["thresholds"] = rows["thresholds"].map(tuple)
    return rows


def _answers_of(model: str, path: Path, since: datetime) -> pa.Table | None:
    """The answers in one file; None if it is another model's or was deleted, which may happen at any time."""
    try:
        with path.open("rb") as file:  # opened once: the writer may replace the file by a longer one
            if _model_of(path, pq.read_schema(file)) != model:
                return None
            return pq.read_table(file, columns=["exit_layer", "entropy", "thresholds"], filters=[("time", ">=", since)])
    except FileNotFoundError:
        return None
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidDataError(f"{path}: not a readable Parquet file ({error}); remove it") from None


def _model_of(path: Path, schema: pa.Schema) -> str:
    if MODEL not in (schema.metadata or {}) or schema.names != SCHEMA.names:
        raise InvalidDataError(f"{path}: not a prediction log; give a folder that holds nothing else")
    return str(schema.metadata[MODEL].decode())


def read_reference(path: Path, layers: Sequence[int]) -> Uncertainties:
    """[N, E], uncertainty of each exit on the calibration texts, from a Parquet file with columns `layer_N`.

    Raises InvalidDataError naming the file if it is missing, or has no column for one of `layers` [E].
    """
    try:
        table = pq.read_table(path)
        columns = [table.column(f"layer_{layer}").to_numpy() for layer in layers]
    except FileNotFoundError:
        raise InvalidDataError(f"{path}: missing; give a folder that the export stage wrote") from None
    except (pa.ArrowInvalid, KeyError) as error:
        raise InvalidDataError(f"{path}: not the uncertainties of exits {list(layers)}: {error}") from None
    return np.stack(columns, axis=1).astype(np.float32)


def compare(
    log: pd.DataFrame, reference: Uncertainties, layers: Sequence[int], confidence: float, min_effect: float
) -> Drift:
    """Compare logged answers with those to the reference texts at the same exit thresholds.

    :param log: as `read_log` gives it
    :param reference: [N, E], uncertainty of each exit
    :param layers: [E]
    :param confidence: probability of no false alarm on independent texts, e.g. 0.99
    :param min_effect: effect size below which a difference is no drift
    :raises TryAgainError: too few answers
    :raises InvalidDataError: too few reference rows
    """
    if len(reference) < MINIMUM_ROWS:
        raise InvalidDataError(
            f"the model was calibrated on {len(reference)} texts only, drift needs {MINIMUM_ROWS}: enlarge "
            "data.reference.split.calibration"
        )
    if log.empty:
        raise TryAgainError(f"no answer of this model in this time; drift needs {MINIMUM_ROWS}")
    thresholds = log["thresholds"].value_counts().index[0]
    same = log[log["thresholds"] == thresholds]
    if len(same) < MINIMUM_ROWS:
        raise TryAgainError(f"{len(same)} answers with one choice of exit thresholds in this time; "
                            f"drift needs {MINIMUM_ROWS}")  # fmt: skip
    exits = first_exit(reference[:, :-1], thresholds)
    expected = reference[np.arange(len(exits)), exits]
    found = same["entropy"].to_numpy(dtype=np.float32)
    counts = np.stack([
        np.bincount(exits, minlength=len(layers)),
        [int((same["exit_layer"] == layer).sum()) for layer in layers],
    ])  # fmt: skip
    shares = counts / counts.sum(1, keepdims=True)
    tests = _tests(counts, shares, expected, found, confidence, min_effect)
    return Drift(
        answers=len(same),
        reference_rows=len(reference),
        thresholds=thresholds,
        other_thresholds=len(log) - len(same),
        exits={str(layer): (float(shares[0, at]), float(shares[1, at])) for at, layer in enumerate(layers)},
        median_entropy=(float(np.median(expected)), float(np.median(found))),
        exit_layers=tests[0],
        entropy=tests[1],
    )


def _tests(
    counts: Counts,
    shares: Floats,
    expected: npt.NDArray[np.float32],
    found: npt.NDArray[np.float32],
    confidence: float,
    min_effect: float,
) -> list[Test]:
    from scipy.stats import ks_2samp

    distance = ks_2samp(expected, found, method="asymp")
    effects = (float(np.abs(shares[0] - shares[1]).sum() / 2), float(distance.statistic))
    p_values = holm([chi_square(counts), float(distance.pvalue)])
    return [Test(p, e, p < 1 - confidence and e >= min_effect) for p, e in zip(p_values, effects, strict=True)]


def chi_square(counts: Counts) -> float:
    """p-value that two samples over the exits, [2, E], come from one distribution; 1 if all leave at one exit."""
    from scipy.stats import chi2_contingency

    columns = _dense(counts)
    return 1.0 if len(columns) < 2 else float(chi2_contingency(np.stack(columns, axis=1), correction=False).pvalue)


def _dense(counts: Counts) -> list[Counts]:
    """The columns, merged with their neighbours until the expected count in both cells is large enough."""
    least = counts.sum(1).min() / counts.sum()
    dense: list[Counts] = []
    waiting = np.zeros(2, dtype=np.int64)
    for column in counts.T:
        waiting = waiting + column
        if waiting.sum() * least >= _LEAST_EXPECTED:
            dense.append(waiting)
            waiting = np.zeros(2, dtype=np.int64)
    if waiting.any() and dense:
        dense[-1] = dense[-1] + waiting
    return dense
