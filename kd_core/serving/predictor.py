"""The exported model as one object: it takes texts and gives labels with probabilities and exit layers.

It runs the exported graphs, so serving needs neither torch nor transformers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.serving.exits.outcomes import Exits, Predictions
from kd_core.serving.exits.speed_wishes import PERCENTILE, with_throughput, within_latency
from kd_core.serving.exits.thresholds import Thresholds
from kd_core.serving.folder.profile import Profile
from kd_core.serving.folder.record import ModelRecord, identity
from kd_core.serving.graphs.executor import Executor
from kd_core.serving.graphs.graphs import Graphs
from kd_core.serving.graphs.tokens import TextEncoder, Tokens
from kd_core.serving.prediction_log import PredictionLog
from kd_core.serving.speed.costs import Costs
from kd_core.serving.speed.kept_costs import known_costs
from kd_core.serving.speed.plan import Planner
from kd_core.tables.cells import NotTextError, as_text
from kd_core.tasks import decide

CHUNK_ROWS = 2048
"""Rows encoded and answered at a time."""

PROBABILITY_PREFIX = "probability_"

_HALF = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: not valid Unicode, and refused by tokenizers."""


class Predictor:
    """A student's graphs with its tokenizer, task and dial, ready to answer on the CPU."""

    def __init__(
        self, executor: Executor, encoder: TextEncoder, record: ModelRecord, log: PredictionLog | None = None
    ) -> None:
        self.executor, self.encoder, self.record, self.log = executor, encoder, record, log

    @classmethod
    def load(
        cls, folder: str | Path, planned: bool = True, threads: int | None = None, log: Path | None = None
    ) -> Predictor:
        """Load the folder that the export stage wrote. Raises InvalidDataError naming what is missing or damaged.

        :param planned: use this machine's timings if there are any (`kd calibrate`): exits that would be slower than
            the full model are then not used; otherwise answers depend on model and threshold alone
        :param threads: threads that share a request; None: OMP_NUM_THREADS, or all cores
        :param log: folder of a prediction log for the answers of `predict`; the caller closes it (`Predictor.log`)
        """
        path = Path(folder)
        record = ModelRecord.read(path)
        record.check_files(path)
        encoder = TextEncoder.load(path, record.tokenization, record.task.kind)
        opened = None if log is None else PredictionLog(log, identity(path))
        executor = Executor(Graphs(path, record), threads=threads)
        predictor, costs = cls(executor, encoder, record, opened), known_costs(executor) if planned else None
        return predictor.planned_by(costs) if costs else predictor

    def planned_by(self, costs: Costs) -> Predictor:
        """The same model with batches, pools and the use of exits planned by these timings."""
        graphs, threads = self.executor.graphs, self.executor.lanes.threads
        planner = Planner(costs, Profile.read(graphs.folder).thinned(), self.record.hidden)
        return Predictor(Executor(graphs, planner, threads=threads), self.encoder, self.record, self.log)

    def predict(
        self,
        texts: Sequence[str] | pd.DataFrame,
        threshold: Thresholds | None = None,
        probabilities: bool = False,
        report: Callable[[int, int], None] | None = None,
    ) -> pd.DataFrame:
        """One row of answers for each text, in order, with the index of `texts` if it is a frame.

        :param texts: [N] texts, or a frame with the columns `text` and, for pairs, `text_pair`
        :param threshold: normalised entropy below which a text leaves early, or one for each early exit (e.g. those of
            `limits`); None: the chosen ones; 0: the full model
        :param probabilities: add a column `probability_<label>` for every label
        :param report: called with the number of rows done and of all rows
        :returns: label, probability, exit_layer (1-based), entropy (normalised, 0 is certain); for kinds whose label
            is a list, `label` and `probability` are tuples
        :raises InvalidDataError: a column or a text is missing (the row is named)
        :raises ParamsError: a threshold is outside [0, 1], or their number is wrong
        """
        limits = self.executor.followed(self.limits(threshold))
        found = self.predict_rows(texts, limits, report)
        kind, labels = decide.of(found.kind), self.record.task.labels
        columns = kind.table(found.units, labels) | {"exit_layer": found.exit_layer, "entropy": found.entropy}
        if probabilities:
            shares = kind.shares(found.units, labels)
            columns |= {f"{PROBABILITY_PREFIX}{label}": share for label, share in shares.items()}
        table = pd.DataFrame(columns, index=texts.index if isinstance(texts, pd.DataFrame) else None)
        if self.log:
            self.log.add(table, limits)
        return table

    def limits(
        self,
        threshold: Thresholds | None = None,
        max_disagreement: float | None = None,
        max_latency_ms: float | None = None,
        latency_percentile: float | None = None,
        min_throughput: float | None = None,
    ) -> Thresholds:
        """The exit thresholds of a request: those that it gives, those of the dial for its wish, or the chosen ones.

        A wish for speed gets the safest point of the dial that meets it by this machine's timings, for texts as long
        and as hard as those of the profile; `record.dial.promise` says what is proven of that point. The time of a text
        is its median on an idle machine, from text to answer in this process, without other load or a server's part.
        If exits do not pay (`Planner.pays`), the full model is the only choice.

        :param max_disagreement: share of predictions that may differ from the full model's
        :param max_latency_ms: time within which a share `latency_percentile` (0.99) of texts is answered, each alone
        :param min_throughput: texts per second in a large request
        :raises ParamsError: more than one of the four is given, or one is out of range; no point is that fast; there
            are no timings of this machine
        """
        if sum(each is not None for each in (threshold, max_disagreement, max_latency_ms, min_throughput)) > 1:
            raise ParamsError("give one of threshold, maximum disagreement, maximum latency and minimum throughput")
        if latency_percentile is not None and max_latency_ms is None:
            raise ParamsError(f"latency percentile {latency_percentile:g}: it belongs to a maximum latency")
        dial = self.record.dial
        if max_disagreement is not None:
            return dial.at(max_disagreement).thresholds
        if max_latency_ms is not None:
            percentile = PERCENTILE if latency_percentile is None else latency_percentile
            return within_latency(dial, self._timed().seconds_alone, max_latency_ms, percentile).thresholds
        if min_throughput is not None:
            seconds = partial(self._timed().mean_seconds, size=CHUNK_ROWS)
            return with_throughput(dial, seconds, min_throughput).thresholds
        return self.record.thresholds if threshold is None else threshold

    def _timed(self) -> Planner:
        if self.executor.planner is None:
            raise ParamsError(
                "a latency or a throughput goes by timings of this machine, and there are none of this model with "
                f"{self.executor.lanes.threads} threads (KD_COSTS: {os.environ.get('KD_COSTS') or 'not set'}): run "
                "`kd calibrate --model …` first"
            )
        return self.executor.planner

    def predict_rows(
        self,
        rows: Sequence[str] | pd.DataFrame,
        threshold: Thresholds | None = None,
        report: Callable[[int, int], None] | None = None,
    ) -> Predictions:
        """Like `predict`, but as arrays and not logged."""
        limits = self.limits(threshold)
        texts = check_texts(rows, self.record.text_columns)
        parts = []
        for start in range(0, max(len(rows), 1), CHUNK_ROWS):
            tokens = self.encoder.encode([column[start : start + CHUNK_ROWS] for column in texts], before=start)
            parts.append(self.executor.answer(tokens, limits))
            if report:
                report(min(start + CHUNK_ROWS, len(rows)), len(rows))
        return Predictions.joined(parts)

    def all_exits(self, rows: pd.DataFrame) -> Exits:
        """The answers of every exit to all rows, in order."""
        return self.executor.all_exits(self.encoder.encode(check_texts(rows, self.record.text_columns)))

    def tokens(self, texts: pd.DataFrame) -> Tokens:
        """The text columns as token ids."""
        return self.encoder.encode([texts[column].tolist() for column in self.record.text_columns])


def check_texts(rows: Sequence[str] | pd.DataFrame, columns: Sequence[str]) -> list[list[str]]:
    """The text columns of `rows` as lists: for one text, a frame costs more than a small model's graphs.

    Raises InvalidDataError that names a missing column or rows without text; also for a single text outside a list.
    """
    if isinstance(rows, str):
        raise InvalidDataError("a single text: put it into a list")  # its characters would count as texts
    return [_checked(column, _column(rows, column, columns)) for column in columns]


def _column(rows: Sequence[str] | pd.DataFrame, column: str, columns: Sequence[str]) -> list[Any]:
    there: Sequence[str] = rows.columns if isinstance(rows, pd.DataFrame) else ("text",)  # type: ignore[assignment]
    if column not in there:
        named = ", ".join(map(str, there)) or "none"
        raise InvalidDataError(f"no column {column!r}; the model reads {', '.join(columns)} (columns there: {named})")
    return rows[column].tolist() if isinstance(rows, pd.DataFrame) else list(rows)


def _checked(column: str, cells: list[Any]) -> list[str]:
    texts = [cell if isinstance(cell, str) else _text(cell) for cell in cells]
    bad = [number for number, text in enumerate(texts, start=1) if not text.strip() or _HALF.search(text)]
    if bad:
        named = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
        raise InvalidDataError(f"column {column!r}: no text in row {named} (counted from 1); fill or remove them")
    return texts


def _text(cell: Any) -> str:
    """The cell as text, as in training (a number, for instance); an empty text if there is none."""
    try:
        return as_text(cell) or ""
    except NotTextError:
        return ""
