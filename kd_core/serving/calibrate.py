"""Time the graphs of a model on this machine: `python -m kd_core.serving.calibrate --model DIR`.

What serving decides by timings belongs to the machine that serves, not to the model: the file goes into the folder
that KD_COSTS names, under the names of graphs and machine, and whoever loads these graphs on such a machine finds it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_core.runtime import fingerprint
from kd_core.runtime.errors import KDError, ParamsError
from kd_core.serving.costs import Costs, fit
from kd_core.serving.graphs import Floats, Graphs
from kd_core.serving.machine import serving_machine
from kd_core.serving.manifest import FOLDER, IDS, MASK, NAME, TYPES, Manifest
from kd_core.serving.pools import Parked, pack
from kd_core.serving.profile import Profile

ROWS = (1, 2, 8, 32, 128)
QUANTILES = (0.1, 0.5, 0.9, 1.0)
"""Of the lengths of the texts that the model was made for."""
MOST_TOKENS = 4096
"""Of a timed batch."""
ROUNDS = 5
SECONDS = 20.0
"""No further round is begun after this time, but two there are."""

_SLOWER = 1.03
"""The largest batch counts that is no slower than this, a token, than the best."""

Timings = dict[str, dict[tuple[int, int], list[float]]]


def calibrate(graphs: Graphs, profile: Profile, seconds: float = SECONDS) -> Costs:
    """Time every graph with batches of several rows and lengths, in turns, and fit what a call costs."""
    grid = _grid(profile)
    timings: Timings = {}
    began = time.monotonic()
    for number in range(ROUNDS + 1):
        for rows, length in grid:
            _time_all(graphs, rows, length, {} if number == 0 else timings)  # the first time counts for nobody
        if number >= 2 and time.monotonic() - began > seconds:
            break
    found = {name: {shape: float(np.median(each)) for shape, each in times.items()} for name, times in timings.items()}
    fitted = {name: fit([(*shape, each) for shape, each in times.items()]) for name, times in found.items()}
    return Costs(
        machine=serving_machine(graphs.threads),
        segments=tuple(fitted[str(number)] for number in range(len(graphs.manifest.segments))),
        whole=fitted["whole"],
        moved=_time_of_a_state(graphs.manifest.hidden, int(profile.lengths.mean())),
        batch_tokens=_best_size(found["whole"]),
    )


def costs_path(graphs: Graphs) -> Path | None:
    """Where the timings of these graphs on this machine are kept; None where KD_COSTS is not set."""
    folder = os.environ.get("KD_COSTS")
    if not folder:
        return None
    model = fingerprint.of_file(graphs.folder / NAME)[:16]
    machine = fingerprint.of_value(serving_machine(graphs.threads))[:16]
    return Path(folder) / f"{model}-{machine}.json"


def known_costs(graphs: Graphs) -> Costs | None:
    """Those that were kept; None if there are none for this machine."""
    path = costs_path(graphs)
    return Costs.read(path) if path is not None and path.is_file() else None


def _grid(profile: Profile) -> list[tuple[int, int]]:
    lengths = sorted({max(int(np.quantile(profile.lengths, share)), 2) for share in QUANTILES})
    return [(rows, length) for rows in ROWS for length in lengths if rows * length <= MOST_TOKENS or rows == 1]


def _time_all(graphs: Graphs, rows: int, length: int, timings: Timings) -> None:
    """One call of each graph with a full batch; the ids do not matter, the hidden states are real ones."""
    mask = np.ones((rows, length), dtype=np.int64)
    tokens = {IDS: mask, MASK: mask, TYPES: np.zeros_like(mask)}

    def timed(name: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        answer = call()
        timings.setdefault(name, {}).setdefault((rows, length), []).append(time.perf_counter() - began)
        return answer

    timed("whole", lambda: graphs.whole(tokens))
    hidden: Floats = timed("0", lambda: graphs.first(tokens))[0]
    for index in range(1, len(graphs.manifest.segments)):
        step = _following(graphs, index, hidden, mask)
        hidden = timed(str(index), step)[0]


def _following(graphs: Graphs, index: int, hidden: Floats, mask: Any) -> Callable[[], tuple[Floats, Floats]]:
    return lambda: graphs.following(index, hidden, mask)


def _time_of_a_state(hidden: int, length: int) -> float:
    """Seconds to cut leavers out of a batch and pack the rest with another's, for each number that is moved."""
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


def _best_size(times: dict[tuple[int, int], float]) -> int:
    """Tokens of the largest batch whose time a token is within 3 % of the best."""
    per_token = {shape: seconds / (shape[0] * shape[1]) for shape, seconds in times.items()}
    best = min(per_token.values())
    return max(rows * length for (rows, length), each in per_token.items() if each <= _SLOWER * best)


def main(argv: Sequence[str] | None = None) -> int:
    """Time a model's graphs and keep what was found; the exit status is that of the error, if there is one."""
    parser = argparse.ArgumentParser(prog="python -m kd_core.serving.calibrate", description="Time a model's graphs.")
    parser.add_argument("--model", type=Path, required=True, help="folder that the export stage wrote")
    folder = parser.parse_args(argv).model / FOLDER
    try:
        graphs = Graphs(folder, Manifest.read(folder))
        path = costs_path(graphs)
        if path is None:
            raise ParamsError("KD_COSTS is not set: it names the folder of this machine's timings")
        costs = calibrate(graphs, Profile.read(folder))
        costs.write(path)
    except KDError as error:
        print(f"error: {error}", file=sys.stderr)
        return int(error.exit_code)
    print(path)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
