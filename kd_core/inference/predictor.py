"""The exported model as one object: texts in, labels with probabilities and exit layers out.

It asks the exported graphs, so that neither torch nor transformers is needed to serve.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_core.inference.exits import Exits, Predictions
from kd_core.inference.record import InferenceRecord
from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.calibrate import known_costs
from kd_core.serving.costs import Costs
from kd_core.serving.executor import Executor
from kd_core.serving.graphs import Graphs
from kd_core.serving.manifest import FOLDER, Manifest
from kd_core.serving.plan import Planner
from kd_core.serving.profile import Profile
from kd_core.serving.tokens import TextEncoder, Tokens

CHUNK_ROWS = 2048
"""Rows that are encoded and answered at a time."""

PROBABILITY_PREFIX = "probability_"

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a character: not valid Unicode, and no tokenizer takes it."""


class Predictor:
    """A student's graphs with its tokenizer, task and thresholds, ready to answer on the CPU."""

    def __init__(self, executor: Executor, encoder: TextEncoder, record: InferenceRecord) -> None:
        self.executor, self.encoder, self.record = executor, encoder, record
        self.manifest = executor.graphs.manifest

    @classmethod
    def load(cls, folder: str | Path, planned: bool = True, threads: int | None = None) -> Predictor:
        """From the folder that the export stage wrote. Raises InvalidDataError naming what is missing or damaged.

        :param planned: go by the timings of this machine where it has any (`kd calibrate`): exits that would be
            slower than the full model are then not asked; otherwise answers follow from model and threshold alone
        :param threads: to compute with; None: OMP_NUM_THREADS, or all cores
        """
        path = Path(folder)
        record, graphs = InferenceRecord.read(path), Graphs(path / FOLDER, Manifest.read(path / FOLDER), threads)
        encoder = TextEncoder.load(graphs.folder, graphs.manifest.tokenization)
        predictor, costs = cls(Executor(graphs), encoder, record), known_costs(graphs) if planned else None
        return predictor.planned_by(costs) if costs else predictor

    def planned_by(self, costs: Costs) -> Predictor:
        """The same, but batches, pools and the use of exits follow from these timings."""
        graphs = self.executor.graphs
        planner = Planner(costs, Profile.read(graphs.folder), self.manifest.hidden)
        return Predictor(Executor(graphs, planner), self.encoder, self.record)

    def predict(
        self,
        texts: Sequence[str] | pd.DataFrame,
        threshold: float | Sequence[float] | None = None,
        probabilities: bool = False,
        report: Callable[[int, int], None] | None = None,
    ) -> pd.DataFrame:
        """One row of answers for each text, in order, with the index of `texts` where it is a frame.

        :param texts: [N] texts, or a frame with the columns `text` and, for pairs, `text_pair`
        :param threshold: normalised entropy below which a text leaves early, or one for each exit but the last;
            None: the chosen ones; 0: the full model
        :param probabilities: add a column `probability_<label>` for every label
        :param report: called with rows done and rows in all
        :returns: label, probability, exit_layer (1-based), entropy (normalised, 0 is certain)
        :raises InvalidDataError: a column is missing, or a text is (row named)
        :raises ParamsError: the threshold is outside [0, 1]
        """
        rows = texts if isinstance(texts, pd.DataFrame) else pd.DataFrame({"text": list(texts)}, dtype=object)
        found = self.predict_rows(rows, threshold, report)
        answers, chosen = found.answers, found.probabilities.max(1, initial=0.0)
        columns: dict[str, Any] = {
            "label": [self.record.labels[index] for index in answers],
            "probability": chosen,
            "exit_layer": found.exit_layer,
            "entropy": found.entropy,
        }
        if probabilities:
            for index, label in enumerate(self.record.labels):
                columns[f"{PROBABILITY_PREFIX}{label}"] = found.probabilities[:, index]
        return pd.DataFrame(columns, index=rows.index)

    def predict_rows(
        self,
        rows: pd.DataFrame,
        threshold: float | Sequence[float] | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> Predictions:
        """As `predict`, in arrays."""
        limits = self._limits(threshold)
        texts = check_texts(rows, self.record.text_columns)
        parts = []
        for start in range(0, max(len(texts), 1), CHUNK_ROWS):
            parts.append(self.executor.answer(self.tokens(texts.iloc[start : start + CHUNK_ROWS]), limits))
            if report:
                report(min(start + CHUNK_ROWS, len(texts)), len(texts))
        return Predictions(
            np.concatenate([part.probabilities for part in parts]),
            np.concatenate([part.exit_layer for part in parts]),
            np.concatenate([part.entropy for part in parts]),
        )

    def all_exits(self, rows: pd.DataFrame) -> Exits:
        """The answers of every exit to all rows, in their order."""
        return self.executor.all_exits(self.tokens(check_texts(rows, self.record.text_columns)))

    def tokens(self, texts: pd.DataFrame) -> Tokens:
        """The text columns as token ids."""
        return self.encoder.encode([texts[column].tolist() for column in self.record.text_columns])

    def _limits(self, threshold: float | Sequence[float] | None) -> Sequence[float]:
        """One threshold for each exit but the last."""
        if threshold is None:
            return self.manifest.thresholds
        if not isinstance(threshold, float | int):
            return threshold
        if not 0 <= threshold <= 1:
            raise ParamsError(f"threshold {threshold}: it is a normalised entropy, from 0 (full model) to 1")
        return (float(threshold),) * (len(self.manifest.exits) - 1)


def check_texts(rows: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Only the text columns of `rows`. Raises InvalidDataError naming a missing column, or rows without text."""
    for column in columns:
        if column not in rows.columns:
            there = ", ".join(map(str, rows.columns)) or "none"
            raise InvalidDataError(
                f"no column {column!r}; the model reads {', '.join(columns)} (columns there: {there})"
            )
        bad = [
            number
            for number, text in enumerate(rows[column].tolist(), start=1)
            if not isinstance(text, str) or not text.strip() or _HALF.search(text)
        ]
        if bad:
            named = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
            raise InvalidDataError(f"column {column!r}: no text in row {named} (counted from 1); fill or remove them")
    return rows[list(columns)]
