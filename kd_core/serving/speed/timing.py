"""Times a model on this machine: `python -m kd_core.serving calibrate --model DIR`.

Timings belong to the machine that serves, not to the model. The file goes into the folder that KD_COSTS names, under
the hashes of graphs and machine, and is found when these graphs are loaded on such a machine.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kd_core.runtime.arrays import Integers
from kd_core.runtime.errors import ParamsError
from kd_core.serving.folder.network import IDS, MASK, TYPES
from kd_core.serving.folder.profile import Profile
from kd_core.serving.graphs.executor import Executor
from kd_core.serving.graphs.graphs import Feeds, Floats, Graphs
from kd_core.serving.graphs.pools import Parked, pack
from kd_core.serving.predictor import Predictor
from kd_core.serving.speed.costs import Costs, fit
from kd_core.serving.speed.kept_costs import costs_path
from kd_core.serving.speed.machine import serving_machine
from kd_core.tasks import encode
from kd_core.tasks.units import UNIT_MASK

ROWS = (1, 2, 8, 32, 128)
QUANTILES = (0.1, 0.5, 0.9, 1.0)
"""Quantiles of the profile's text lengths that are timed."""
MOST_TOKENS = 4096
"""Most tokens of a timed batch."""
ROUNDS = 5
CALLS = 5
STEPS = 100
PADDED_ROWS = 16
"""Texts of the batch that measures the cost of padding."""
SECONDS = 20.0
"""No further round begins after this time; at least two are made."""

_SLOWER = 1.03
"""The largest batch whose time per token is within this factor of the best is chosen."""

Timings = dict[str, dict[tuple[int, int], list[float]]]


class _Instant(Graphs):
    """Answers at once, so that the time of a request is the time outside the graphs."""

    def whole(self, tokens: Feeds) -> Floats:
        return self._undecided(tokens)

    def first(self, tokens: Feeds) -> tuple[Floats, Floats]:
        return np.zeros((*tokens[IDS].shape, self.network.hidden), dtype=np.float32), self._undecided(tokens)

    def following(self, index: int, hidden: Floats, known: Feeds) -> tuple[Floats, Floats]:
        return hidden, self._undecided(known)

    def _undecided(self, known: Feeds) -> Floats:
        labels = len(self.network.task.labels)
        units = known[UNIT_MASK].size if UNIT_MASK in known else len(known[MASK])
        return np.full((units, labels), 1 / labels, dtype=np.float32)


def measure_costs(model: Predictor) -> Costs:
    """Time every graph and the work outside them in turns, with several rows and lengths, and fit their costs."""
    graphs = model.executor.graphs
    profile = Profile.read(graphs.folder).thinned()
    outside, grid = _without_graphs(model), _grid(profile)
    timings: Timings = {}
    began = time.monotonic()
    for number in range(ROUNDS + 1):
        for rows, length in grid:
            kept = {} if number == 0 else timings  # the first round is a warm-up
            _time_all(graphs, rows, length, kept)
            _time_outside(outside, rows, length, kept)
        if number >= 2 and time.monotonic() - began > SECONDS:
            break
    found = {name: {shape: float(np.median(each)) for shape, each in times.items()} for name, times in timings.items()}
    fitted = {name: fit([(*shape, each) for shape, each in times.items()]) for name, times in found.items()}
    step = _time_of_a_step(outside, int(profile.lengths.mean()))
    segments = [fitted[str(number)] for number in range(len(graphs.network.segments))]
    return Costs(
        machine=serving_machine(model.executor.lanes.threads),
        segments=tuple(each.and_beside(step) for each in segments),
        whole=fitted["whole"],
        moved=_time_of_a_state(graphs.network.hidden, int(profile.lengths.mean())),
        batch_tokens=_best_size(found["whole"]),
        padding=_share_of_padding(graphs, max(int(np.quantile(profile.lengths, QUANTILES[-2])), 4)),
        outside=fitted["outside"],
        lanes=_gain_of_lanes(model, int(profile.lengths.mean())),
    )


def _grid(profile: Profile) -> list[tuple[int, int]]:
    lengths = sorted({max(int(np.quantile(profile.lengths, share)), 2) for share in QUANTILES})
    return [(rows, length) for rows in ROWS for length in lengths if rows * length <= MOST_TOKENS or rows == 1]


def _time_all(graphs: Graphs, rows: int, length: int, timings: Timings) -> None:
    """Time calls of each graph with a full batch of arbitrary ids and real hidden states.

    The order is that of serving, because caches hold what was used last: the whole graph repeatedly, then the segments
    in turn. The first pass does not count.
    """
    tokens = _full_batch(graphs, np.ones((rows, length), dtype=np.int64))
    times = CALLS if rows == 1 else 1  # the shorter a call, the more other programs disturb a single timing

    def timed(name: str, number: int, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = call()
        if number:
            timings.setdefault(name, {}).setdefault((rows, length), []).append(time.perf_counter() - began)
        return answer

    for number in range(times + 1):
        timed("whole", number, lambda: graphs.whole(tokens))
    for number in range(times + 1):
        hidden: Floats = timed("0", number, lambda: graphs.first(tokens))[0]
        for index in range(1, len(graphs.network.segments)):
            hidden = timed(str(index), number, _following(graphs, index, hidden, tokens))[0]


def _following(graphs: Graphs, index: int, hidden: Floats, tokens: Feeds) -> Callable[[], tuple[Floats, Floats]]:
    return lambda: graphs.following(index, hidden, tokens)


def _full_batch(graphs: Graphs, mask: Integers) -> Feeds:
    """Arbitrary tokens where the mask [B, L] has them; as many units as tokens if parts of a text are asked about."""
    nothing = np.zeros_like(mask)
    tokens: Feeds = {IDS: mask, MASK: mask, TYPES: nothing}
    features = encode.of(graphs.network.task.kind).FEATURES
    return tokens | dict.fromkeys(features, nothing) | ({UNIT_MASK: mask.astype(bool)} if features else {})


def _without_graphs(model: Predictor) -> Predictor:
    graphs = model.executor.graphs
    return Predictor(Executor(_Instant(graphs.folder, graphs.network), threads=1), model.encoder, model.record)


def _time_outside(model: Predictor, rows: int, length: int, timings: Timings) -> None:
    """Time one request of made-up texts, recorded under their real length in tokens."""
    columns = model.record.text_columns
    texts = pd.DataFrame({column: model.encoder.sample(rows, length // len(columns)) for column in columns})
    began = time.perf_counter()
    model.predict(texts, 0.0)
    took = time.perf_counter() - began
    tokens = round(float(model.tokens(texts).lengths.mean()))
    timings.setdefault("outside", {}).setdefault((rows, tokens), []).append(took)


def _time_of_a_step(model: Predictor, length: int) -> float:
    """Seconds of the work beside each segment of an early-exit request: uncertainty, leavers, the next batch.

    For a fast graph this is much; the whole graph has none of it.
    """
    tokens = model.encoder.encode([model.encoder.sample(1, length)] * len(model.record.text_columns))
    early = len(model.record.exits) - 1
    found: dict[float, list[float]] = {0.0: [], 1e-9: []}  # no text is so certain: all pass every segment
    for _ in range(STEPS):
        for threshold, seconds in found.items():
            began = time.perf_counter()
            model.executor.answer(tokens, (threshold,) * early)
            seconds.append(time.perf_counter() - began)
    whole, steps = (float(np.median(seconds)) for seconds in found.values())
    return max(steps - whole, 0.0) / len(model.record.segments)


def _time_of_a_state(hidden: int, length: int) -> float:
    """Seconds, for each number that is moved, to take leavers out of a batch and pack the rest with another batch."""
    rows = np.arange(16)
    lengths = np.full(32, length, dtype=np.int64)
    states = np.ones((16, length, hidden), dtype=np.float32)
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        parts = [Parked(rows, states[rows[::-1]]), Parked(rows + 16, states[rows[::-1]])]
        packed = pack(parts, np.arange(32), lengths)
        found.append((time.perf_counter() - began) / packed.hidden.size)
    return float(np.median(found))


def _gain_of_lanes(model: Predictor, length: int) -> float:
    """Speed-up of a large request by all threads over one thread; 1 if there is only one."""
    threads = model.executor.lanes.threads
    if threads == 1:
        return 1.0
    columns = model.record.text_columns
    tokens = model.encoder.encode([model.encoder.sample(ROWS[-1] * threads, length // len(columns)) for _ in columns])
    nowhere = (0.0,) * (len(model.record.exits) - 1)
    gains = []
    for _ in range(ROUNDS):
        seconds = []
        for count in (1, threads):
            executor = Executor(model.executor.graphs, threads=count)
            began = time.perf_counter()
            executor.answer(tokens, nowhere)
            seconds.append(time.perf_counter() - began)
        gains.append(seconds[0] / seconds[1])
    return float(np.median(gains))


def _share_of_padding(graphs: Graphs, length: int) -> float:
    """Cost of a token of padding relative to another token: half of a batch is padding, or tokens, or left out."""
    rows = PADDED_ROWS
    full, half = np.ones((rows, length), dtype=np.int64), np.ones((rows, length // 2), dtype=np.int64)
    padded = full.copy()
    padded[:, length // 2 :] = 0
    found = []
    for number in range(CALLS * ROUNDS + 1):
        seconds = []
        for used in (half, padded, full):
            began = time.perf_counter()
            graphs.whole(_full_batch(graphs, used))
            seconds.append(time.perf_counter() - began)
        if number:
            found.append(seconds)
    small, middle, large = np.median(found, axis=0).tolist()
    return float(np.clip((middle - small) / max(large - small, 1e-12), 0.0, 1.0))


def _best_size(times: dict[tuple[int, int], float]) -> int:
    """Tokens of the largest batch whose time per token is within 3 % of the best."""
    per_token = {shape: seconds / (shape[0] * shape[1]) for shape, seconds in times.items()}
    best = min(per_token.values())
    return max(rows * length for (rows, length), each in per_token.items() if each <= _SLOWER * best)


def keep_costs(folder: Path) -> Path:
    """Time the model in `folder` and keep the result where KD_COSTS says; returns the file.

    Raises ParamsError if KD_COSTS is not set.
    """
    model = Predictor.load(folder, planned=False)
    path = costs_path(model.executor)
    if path is None:
        raise ParamsError("KD_COSTS is not set: it names the folder of this machine's timings")
    measure_costs(model).write(path)
    return path
