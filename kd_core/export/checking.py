"""Exports a trained student's graphs, compares them with PyTorch, and chooses int8 if it keeps the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_core.config.data import TaskParams
from kd_core.config.evaluation import ExportParams
from kd_core.export.folder import check_tokenizer, write_graphs
from kd_core.export.quantising import agreement, quantised
from kd_core.export.tracing import inputs_of, trace
from kd_core.inference.all_exits import all_exits
from kd_core.inference.batches import encode
from kd_core.models.layers import check_length
from kd_core.models.student import StudentModel
from kd_core.row_samples import stratified_sample
from kd_core.runtime.errors import InvalidDataError
from kd_core.serving.exits.outcomes import Exits
from kd_core.serving.folder.network import Network
from kd_core.serving.folder.record import text_columns
from kd_core.serving.graphs.executor import Executor
from kd_core.serving.graphs.graphs import Feeds, Graphs, fed
from kd_core.serving.graphs.tokens import TextEncoder, Tokens

COMPARED_ROWS = 64
"""Texts, of all labels, on which the graphs are compared with PyTorch."""
TOLERANCE = 1e-4
"""Largest allowed difference of a probability: another order of fp32 sums stays far below, a wrong graph far above."""

RANGE_ROWS = 256
"""Most texts that set the ranges of int8's activations."""
_SEED = 0


@dataclass(frozen=True)
class Served:
    """Graphs in the model's folder, ready for use."""

    network: Network
    executor: Executor
    encoder: TextEncoder
    quantisation: dict[str, Any]
    """asked, precision (in service), agreement with fp32 and its number of rows; empty if int8 was not asked for."""

    def tokens(self, rows: pd.DataFrame) -> Tokens:
        """The text columns as token ids."""
        return self.encoder.encode([rows[column].tolist() for column in text_columns(self.network.task)])


def serve_graphs(
    model: StudentModel,
    tokenizer: Any,
    task: TaskParams,
    params: ExportParams,
    rows: pd.DataFrame,
    valid: pd.DataFrame,
    folder: Path,
) -> Served:
    """Write the graphs of a student into the model's folder, in int8 if that is asked for and keeps the labels.

    :param rows: texts to compare the graphs with PyTorch on
    :param valid: other texts, for int8: half of them for the ranges of activations, the other half to compare its
        labels with those of fp32
    :raises ParamsError: the encoder or the tokenizer cannot be exported
    :raises InvalidDataError: the graphs do not answer as PyTorch does, or there are no texts for int8
    """
    check_tokenizer(tokenizer)
    check_length(model, task.max_length, "data.reference.task", "set it to no more, or take another base")
    takes = inputs_of(model, tokenizer)
    graph = trace(model, takes)
    plain = _written(write_graphs(graph, model, tokenizer, task, "fp32", folder), folder)
    _compare(model, tokenizer, task, plain, stratified_sample(rows, COMPARED_ROWS))
    if params.quantise == "none":
        return plain
    ranges, others = shared_out(valid, min(len(valid) // 2, RANGE_ROWS))
    if ranges.empty:
        raise InvalidDataError("the valid split has no texts for int8; set data.reference.split.valid")
    batches = [fed(takes, batch) for batch in _one_by_one(plain, plain.tokens(ranges))]
    held_out = plain.tokens(others)
    expected = plain.executor.all_exits(held_out)
    small = quantised(graph, batches)
    found = _written(write_graphs(small, model, tokenizer, task, "int8 static", folder), folder)
    share = agreement(expected, found.executor.all_exits(held_out))
    if share < params.min_agreement:
        found = _written(write_graphs(graph, model, tokenizer, task, "fp32", folder), folder)
    report = {
        "asked": params.quantise,
        "precision": found.network.precision,
        "agreement": share,
        "min_agreement": params.min_agreement,
        "rows": len(held_out),
    }
    return Served(found.network, found.executor, found.encoder, report)


def shared_out(rows: pd.DataFrame, taken: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`taken` random rows, and the others, both in their original order.

    Rows are sorted by id, and ids may begin with something that determines the label. The first rows would then be of
    other classes than the rest, and int8 would be judged on texts unlike those that set its ranges.
    """
    chosen = np.isin(np.arange(len(rows)), np.random.default_rng(_SEED).permutation(len(rows))[:taken])
    return rows[chosen], rows[~chosen]


def _written(network: Network, folder: Path) -> Served:
    encoder = TextEncoder.load(folder, network.tokenization, network.task.kind)
    return Served(network, Executor(Graphs(folder, network)), encoder, {})


def _one_by_one(served: Served, tokens: Tokens) -> list[Feeds]:
    """Each text in its own batch, so that values at padding do not widen the ranges."""
    return [served.executor.feeds(tokens, np.array([row])) for row in range(len(tokens))]


def _compare(model: StudentModel, tokenizer: Any, task: TaskParams, served: Served, rows: pd.DataFrame) -> None:
    encoded, tokens = encode(rows, tokenizer, task), served.tokens(rows)
    if tokens.ids != encoded.input_ids:
        raise InvalidDataError("the exported tokenizer does not cut texts as the student's own does")
    expected: Exits = all_exits(model, encoded, tokenizer.pad_token_id)
    difference = np.abs(served.executor.all_exits(tokens).probabilities - expected.probabilities).max(initial=0)
    if not difference <= TOLERANCE:
        kind = model.encoder.config.model_type
        raise InvalidDataError(f"encoder {kind!r}: its ONNX graphs differ from PyTorch by {difference:.1e}")
