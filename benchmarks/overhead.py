"""What a cached run costs, beside another checkout: wall clock and CPU of `kd run` where nothing is left to compute.

`python -m benchmarks.overhead OTHER` takes the folder of another checkout, an older build with its own `.venv`. In both
the default recipe must have run before, so that every stage is reused. Runs alternate, so a busy machine slows both
sides. Words after `--` follow `kd run` on both sides. Ratios are this build ÷ the other one, of medians. "A stage" is
the CPU time of the run divided by its stages.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kd_core.runtime.errors import TryAgainError
from kd_ops.base.settings import PROJECT

REUSED = "unchanged, computed in run"
"""What `kd run` says of a stage that it reused."""


@dataclass(frozen=True)
class Cost:
    """Of one run, in seconds."""

    wall: float
    cpu: float
    stages: int


def cached_run(project: Path, words: Sequence[str]) -> Cost:
    """Run `kd run` in the checkout `project`. Raises TryAgainError if it fails or computes a stage."""
    began, before = time.monotonic(), _children_cpu()
    done = subprocess.run(
        [str(project / ".venv/bin/python"), "-m", "kd_ops.cli", "run", *words],
        cwd=project,
        env=_environment(project),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    cost = Cost(time.monotonic() - began, _children_cpu() - before, done.stdout.count(REUSED))
    computed = [line for line in done.stdout.splitlines() if line.startswith("✓")]
    if done.returncode or computed or not cost.stages:
        said = "\n".join(done.stdout.splitlines()[-15:])
        raise TryAgainError(f"{project}: the run was not a cached one; run it once to its end, then try again:\n{said}")
    return cost


def ratios(ours: Sequence[Cost], theirs: Sequence[Cost]) -> dict[str, tuple[float, float, float]]:
    """What is compared → (ours, theirs, ours ÷ theirs), medians."""
    kinds = {
        "wall clock of a cached run (s)": [[cost.wall for cost in side] for side in (ours, theirs)],
        "CPU of a cached run (s)": [[cost.cpu for cost in side] for side in (ours, theirs)],
        "CPU a stage (s)": [[cost.cpu / cost.stages for cost in side] for side in (ours, theirs)],
    }
    medians = {name: (statistics.median(one), statistics.median(other)) for name, (one, other) in kinds.items()}
    return {name: (one, other, one / other) for name, (one, other) in medians.items()}


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _environment(project: Path) -> dict[str, str]:
    """Of a user of that checkout: settings of this one must not reach it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("KD_", "AIRFLOW", "MLFLOW_"))}
    return {**kept, "PYTHONPATH": str(project), "MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "1"}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    parser.add_argument("other", type=Path, help="folder of the other checkout")
    parser.add_argument("--this", type=Path, default=PROJECT, help="folder of this build; default: where it stands")
    parser.add_argument("--repeats", type=int, default=3)
    given = list(sys.argv[1:] if argv is None else argv)
    end = given.index("--") if "--" in given else len(given)
    options, words = parser.parse_args(given[:end]), given[end + 1 :]
    ours, theirs = [], []
    for _ in range(options.repeats):
        theirs.append(cached_run(options.other.resolve(), words))
        ours.append(cached_run(options.this.resolve(), words))
    for name, (one, other, ratio) in ratios(ours, theirs).items():
        print(f"{name:<34} this {one:7.2f}   other {other:7.2f}   ratio {ratio:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
