"""`kd predict`: texts or a file of them, answered by a registered model in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kd_core.runtime.errors import ParamsError
from kd_ops.base.settings import Settings
from kd_ops.serving.served import serve

_SHOWN_CHARACTERS = 70


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be answered, and how."""

    texts: Sequence[str] = ()
    pairs: Sequence[str] = ()
    """The second texts; empty for tasks of single texts."""
    source: Path | None = None
    target: Path | None = None
    threshold: float | None = None
    probabilities: bool = False
    columns: Sequence[str] = ()
    """OURS=THEIRS: where the texts stand in `source`; otherwise where they stood in the training data."""
    max_disagreement: float | None = None
    """At most this share of predictions differs from the full model's; instead of a threshold."""
    log: Path | None = None
    """Folder of a prediction log."""
    max_latency_ms: float | None = None
    """Of one text alone, by the timings of `kd calibrate`; instead of a threshold."""
    percentile: float | None = None
    """Share of texts that the latency is for."""
    min_throughput: float | None = None
    """Texts a second, by the same timings; instead of a threshold."""
    skip_empty: bool = False
    """Whether rows of `source` without text get an empty answer, instead of being refused."""

    def check(self) -> None:
        """Raises ParamsError unless it is either texts, or an input with an output."""
        if (self.source is None) != (self.target is None):
            raise ParamsError("--input and --output belong together")
        if bool(self.texts) == (self.source is not None):
            raise ParamsError("give either texts, or --input with --output")
        if self.columns and self.source is None:
            raise ParamsError("--column names columns of --input")
        if self.skip_empty and self.source is None:
            raise ParamsError("--skip-empty is for rows of --input")
        if len(self.wishes()) + (self.threshold is not None) > 1:
            raise ParamsError("give one of --threshold, --max-disagreement, --max-latency-ms and --min-throughput")
        if self.percentile is not None and self.max_latency_ms is None:
            raise ParamsError("--percentile belongs to --max-latency-ms")
        if self.pairs and len(self.pairs) != len(self.texts):
            raise ParamsError(f"{len(self.texts)} texts but {len(self.pairs)} --text-pair: give one for each text")

    def wishes(self) -> dict[str, float]:
        """What is asked of the dial, by its option; at most one."""
        wishes = {
            "--max-disagreement": self.max_disagreement,
            "--max-latency-ms": self.max_latency_ms,
            "--min-throughput": self.min_throughput,
        }
        return {name: value for name, value in wishes.items() if value is not None}

    def lines(self) -> str:
        """The texts as JSON lines."""
        rows: list[dict[str, str]] = [{"text": text} for text in self.texts]
        for row, pair in zip(rows, self.pairs, strict=False):
            row["text_pair"] = pair
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)

    def options(self) -> list[str]:
        """Words for the process that answers."""
        numbers = {"--threshold": self.threshold, **self.wishes(), "--percentile": self.percentile}
        words = [word for name, value in numbers.items() if value is not None for word in (name, str(value))]
        words += [] if self.log is None else ["--log", str(self.log.absolute())]
        words += ["--probabilities"] if self.probabilities else []
        words += ["--skip-empty"] if self.skip_empty else []
        words += [word for pair in self.columns for word in ("--column", pair)]
        if self.source is not None and self.target is not None:
            words += ["--input", str(self.source.absolute()), "--output", str(self.target.absolute())]
        return words


def answer(model: str, question: Question, as_json: bool, console: Console, settings: Settings) -> None:
    """Answer and print: a table, or one JSON object a text; of a file only where the answers went."""
    question.check()
    served = serve(model, settings)
    if question.wishes() or question.log is not None:
        served.check_dial()
    if question.source is not None:
        served.predict(question.options(), costs=costs_folder(settings))
        console.print(f"answers written to {question.target}", highlight=False, soft_wrap=True)
        return
    lines = served.predict(question.options(), question.lines(), costs_folder(settings)).splitlines()
    if as_json:
        print("\n".join(lines))
    else:
        console.print(_table([json.loads(line) for line in lines]))


def costs_folder(settings: Settings) -> Path:
    """Where the timings of models on this machine are."""
    return settings.home / "costs"


def _table(answers: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    texts = ("text", "text_pair", "label")
    shown: list[str] = [name for name in texts if name in answers[0]]
    for name in shown:
        table.add_column(name.replace("_", " "), style="bold green" if name == "label" else "")
    for name in ("probability", "exit layer"):
        table.add_column(name, justify="right")
    extra = [name for name in answers[0] if name.startswith("probability_")]
    for name in extra:
        table.add_column(name.removeprefix("probability_"), justify="right", style="dim")
    for row in answers:
        numbers = [_shares(row["probability"]), str(row["exit_layer"]), *(_shares(row[name]) for name in extra)]
        table.add_row(*(escape(_short(_text(row[name]))) for name in shown), *numbers)
    return table


def _text(answer: str | Sequence[str]) -> str:
    """A text or a label; several labels, or a dash for none."""
    return answer if isinstance(answer, str) else ", ".join(answer) or "–"


def _shares(probability: float | Sequence[float]) -> str:
    return ", ".join(f"{each:.1%}" for each in (probability if isinstance(probability, list) else [probability]))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
