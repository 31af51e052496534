"""`python -m kd_core.serving predict`: answers to a file of texts, or to the texts of standard input.

Standard input holds one JSON value per line (a string, or an object with `text` and, for pairs, `text_pair`); the
answers are then printed as JSON lines.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from kd_core.runtime.errors import InvalidDataError, ParamsError
from kd_core.runtime.progress import Progress
from kd_core.serving.exits.thresholds import Thresholds
from kd_core.serving.files import named_texts, predict_file
from kd_core.serving.predictor import Predictor
from kd_core.tables.formats import READABLE


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `predict` besides --model."""
    parser.add_argument("--input", type=Path, help=READABLE)
    parser.add_argument("--output", type=Path, help="the same kinds: all input columns with the answers")
    parser.add_argument("--column", action="append", metavar="OURS=THEIRS", help="where a text stands: text=body")
    parser.add_argument("--threshold", type=float, help="normalised entropy; none: the chosen one; 0: the full model")
    parser.add_argument("--max-disagreement", type=float, help="predictions that may differ from the full model's")
    parser.add_argument("--max-latency-ms", type=float, help="of one text alone, by this machine's timings (KD_COSTS)")
    parser.add_argument("--percentile", type=float, help="share of texts that the latency is for; none: 0.99")
    parser.add_argument("--min-throughput", type=float, help="texts a second, by this machine's timings (KD_COSTS)")
    parser.add_argument("--log", type=Path, help="folder of the prediction log; no texts are logged")
    parser.add_argument("--skip-empty", action="store_true", help="leave the answer of a row without text empty")
    parser.add_argument("--probabilities", action="store_true", help="add the probability of every label")


def answer(options: argparse.Namespace) -> None:
    """Answer the file or standard input that the options name. Raises KDError for wrong options or wrong input."""
    if (options.input is None) != (options.output is None):
        raise ParamsError("--input and --output belong together; without them texts come from standard input")
    predictor = Predictor.load(options.model, log=options.log)
    if options.input is None:
        _answer_lines(predictor, sys.stdin, options)
    else:
        _answer_file(predictor, options)
    if predictor.log:
        predictor.log.close()


def _answer_file(predictor: Predictor, options: argparse.Namespace) -> None:
    progress = Progress.from_environment("predict")

    def report(done: int, total: int) -> None:
        progress.update("predict", done, total)

    columns = _columns(options.column)
    limits = _limits(predictor, options)
    given = (predictor, options.input, options.output, limits, options.probabilities, report, columns)
    predict_file(*given, skip_empty=options.skip_empty)


def _limits(predictor: Predictor, options: argparse.Namespace) -> Thresholds:
    """The exit thresholds that follow from the options; standard error says what a wish for speed costs."""
    limits = predictor.limits(
        options.threshold,
        options.max_disagreement,
        options.max_latency_ms,
        options.percentile,
        options.min_throughput,
    )
    if options.max_latency_ms is not None or options.min_throughput is not None:
        print(f"note: {predictor.record.dial.promise(limits)}", file=sys.stderr)
    return limits


def _columns(words: Sequence[str] | None) -> dict[str, str]:
    """Each OURS=THEIRS as an entry `ours: theirs`."""
    pairs = [word.partition("=") for word in words or ()]
    for ours, sign, theirs in pairs:
        if not (ours and sign and theirs):
            raise ParamsError(f"--column {ours}{sign}{theirs}: write it as text=NAME")
    return {ours: theirs for ours, _, theirs in pairs}


def _answer_lines(predictor: Predictor, lines: Iterable[str], options: argparse.Namespace) -> None:
    records = [_record(line, number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not records:
        raise InvalidDataError("standard input: holds no texts")
    texts = named_texts(pd.DataFrame(records, dtype=object), predictor.record, _columns(options.column))
    answers = predictor.predict(texts, _limits(predictor, options), options.probabilities)
    for text, answer in zip(texts.to_dict("records"), answers.to_dict("records"), strict=True):
        print(json.dumps({**text, **answer}, ensure_ascii=False))


def _record(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidDataError(f"standard input: line {number} is not JSON: {error}") from None
    if isinstance(value, str):
        return {"text": value}
    if isinstance(value, dict):
        return value
    raise InvalidDataError(f"standard input: line {number} must hold a string or an object with texts")
