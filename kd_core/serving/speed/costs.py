"""The cost of a call of each graph on one machine, by which batches, pools and exits are planned.

seconds(rows, length) = call + rows · length · (token + square · length)

The three coefficients of each graph are fitted to timings (kd_core.serving.speed.timing). `call` is the fixed cost of a
call, `square` the attention's share, which grows with the square of the length. A single text has its own coefficients,
because it takes less time than a fit to larger batches predicts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from kd_core.runtime.arrays import Floats
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.files import write_json

UNTIMED_BATCH_TOKENS = 1024
"""Tokens of a batch, padding included, if nothing was timed: enough to fill vector units, few enough for caches."""

SCHEMA_VERSION = 4

Number = TypeVar("Number", float, Floats)


@dataclass(frozen=True)
class Cost:
    """The coefficients of one graph, in seconds."""

    call: float
    token: float
    square: float
    alone: Cost | None = None
    """Those of a single text; None: as in a batch."""

    def among(self, size: float) -> Cost:
        """The coefficients for a batch of `size` texts."""
        return self.alone if size == 1 and self.alone else self

    def of(self, rows: float, length: Number) -> Number:
        """Seconds of a call with `rows` texts padded to `length` tokens."""
        cost = self.among(rows)
        return cost.call + rows * length * (cost.token + cost.square * length)

    def and_beside(self, seconds: float) -> Cost:
        """The same cost with `seconds` of other work for each call."""
        return replace(self, call=self.call + seconds, alone=self.alone and self.alone.and_beside(seconds))


@dataclass(frozen=True)
class Costs:
    """The costs of all graphs of one model on one machine."""

    machine: dict[str, Any]
    """The machine of the timings; see kd_core.serving.speed.machine."""
    segments: tuple[Cost, ...]
    """Each includes the work for its exit."""
    whole: Cost
    moved: float
    """Seconds to copy one number of a hidden state from one batch to another."""
    batch_tokens: int
    """Tokens of a batch, padding included, at which the whole graph answers fastest."""
    padding: float
    """Cost of a token of padding relative to another token: less than 1 if layers do not compute it."""
    outside: Cost
    """Cost of a request outside the graphs: to check and tokenise its texts and to tabulate its answers."""
    lanes: float
    """Speed-up of a large request by all threads over one thread; all other costs are those of one thread."""

    def write(self, path: Path) -> None:
        """Write a JSON file; a server may read it at the same time."""
        write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(self)})

    @classmethod
    def read(cls, path: Path) -> Costs:
        """Raises InvalidDataError naming the file if it was not written by `write`."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found.pop("schema_version") != SCHEMA_VERSION:
                raise ValueError(f"not of schema version {SCHEMA_VERSION}")
            segments = tuple(_cost(each) for each in found.pop("segments"))
            whole, outside = (_cost(found.pop(name)) for name in ("whole", "outside"))
            return cls(segments=segments, whole=whole, outside=outside, **found)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidDataError(f"{path}: no timings of this version ({error}); run `kd calibrate` again") from None


def _cost(values: dict[str, Any]) -> Cost:
    alone = values["alone"]
    return Cost(**{**values, "alone": alone and Cost(**alone)})


def fit(timings: Sequence[tuple[int, int, float]]) -> Cost:
    """The cost that fits timings (rows, length, seconds) best; single texts are fitted apart."""
    single = [each for each in timings if each[0] == 1]
    return replace(_fit([each for each in timings if each[0] > 1] or single), alone=_fit(single) if single else None)


def _fit(timings: Sequence[tuple[int, int, float]]) -> Cost:
    """The fit with the least relative error; no coefficient is below 0."""
    rows, length, seconds = (np.array(column, dtype=np.float64) for column in zip(*timings, strict=True))
    terms = np.stack([np.ones_like(rows), rows * length, rows * length**2], axis=1) / seconds[:, None]
    used = [0, 1, 2]
    while True:
        found = np.linalg.lstsq(terms[:, used], np.ones_like(seconds), rcond=None)[0]
        if (found >= 0).all():
            break
        used.pop(int(found.argmin()))
    values = np.zeros(3)
    values[used] = found
    call, token, square = values.tolist()
    return Cost(call, token, square)
