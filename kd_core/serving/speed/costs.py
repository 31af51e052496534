"""What a call of each graph costs on one machine, and what follows for batches, pools and exits.

seconds(rows, length) = call + rows · length · (token + square · length)

The three coefficients of each graph are fitted to timings (kd_core.serving.speed.timing). `call` is what a call costs
whatever it computes, `square` the attention's share, which grows with the square of the length. A text by itself has
coefficients of its own: it takes less than the line through larger batches says.
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
"""Tokens of a batch, padding included, where nothing was timed: enough to fill vector units, few enough for caches."""

SCHEMA_VERSION = 4

Number = TypeVar("Number", float, Floats)


@dataclass(frozen=True)
class Cost:
    """Of one graph, in seconds."""

    call: float
    token: float
    square: float
    alone: Cost | None = None
    """Of one text by itself; None: as in a batch."""

    def among(self, size: float) -> Cost:
        """The coefficients for one of so many texts."""
        return self.alone if size == 1 and self.alone else self

    def of(self, rows: float, length: Number) -> Number:
        """A call with a batch of `rows` texts padded to `length` tokens."""
        cost = self.among(rows)
        return cost.call + rows * length * (cost.token + cost.square * length)

    def and_beside(self, seconds: float) -> Cost:
        """The same with what is done beside each call."""
        return replace(self, call=self.call + seconds, alone=self.alone and self.alone.and_beside(seconds))


@dataclass(frozen=True)
class Costs:
    """Of all graphs of one model on one machine."""

    machine: dict[str, Any]
    """What was timed on; see kd_core.serving.speed.machine."""
    segments: tuple[Cost, ...]
    """Each with what is done beside it for its exit."""
    whole: Cost
    moved: float
    """Seconds for each hidden state, a number, that is copied from one batch to another."""
    batch_tokens: int
    """Tokens of a batch, padding included, at which the whole graph answers fastest."""
    padding: float
    """What a token of padding costs, as a share of another: less than 1 where layers do not compute it."""
    outside: Cost
    """What a request takes outside the graphs: its texts checked and cut into tokens, its answers tabulated."""
    lanes: float
    """How many times faster all threads answer a large request than one does; all other costs are those of one."""

    def write(self, path: Path) -> None:
        """Write a JSON file; a server may read it meanwhile."""
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
    """The cost that explains timings (rows, length, seconds) best; those of single texts are explained apart."""
    single = [each for each in timings if each[0] == 1]
    return replace(_fit([each for each in timings if each[0] > 1] or single), alone=_fit(single) if single else None)


def _fit(timings: Sequence[tuple[int, int, float]]) -> Cost:
    """With the least relative error; no coefficient below 0."""
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
