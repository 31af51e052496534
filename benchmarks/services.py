"""What real services cost: a run over S3 and PostgreSQL, and the same run over folders and SQLite.

`python -m benchmarks.services` takes the services from the environment (KD_STORE_URI, MLFLOW_TRACKING_URI and what they
need). Words after `--` follow `kd repro`. Each run computes everything in a place of its own, deleted afterwards; the
sides take turns, so a busy machine slows both. The ratio is that of medians, services ÷ folders.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence

from kd_core.runtime.errors import ParamsError, TryAgainError
from kd_core.runtime.storage import Storage
from kd_ops.base.settings import PROJECT

_OWN = ("KD_HOME", "KD_STORE_URI", "KD_RUNS_URI", "KD_CACHE_DIR", "MLFLOW_TRACKING_URI")


def seconds(words: Sequence[str], places: Mapping[str, str]) -> float:
    """Wall clock of a run from nothing. Raises TryAgainError if it fails."""
    kept = {name: value for name, value in os.environ.items() if name not in _OWN}
    with tempfile.TemporaryDirectory(prefix="kd-services-") as home:
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "kd_ops.cli", "repro", *words],
            cwd=PROJECT,
            env={**kept, "PYTHONPATH": str(PROJECT), **places, "KD_HOME": home},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise TryAgainError(f"the run failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return time.monotonic() - began


def over_services(words: Sequence[str]) -> float:
    """As `seconds`, in a new place on the services. Raises ParamsError where the environment names none."""
    store, tracking = os.environ.get("KD_STORE_URI", ""), os.environ.get("MLFLOW_TRACKING_URI", "")
    if "://" not in store or "://" not in tracking:
        raise ParamsError("set KD_STORE_URI to s3://… and MLFLOW_TRACKING_URI to your server or its database")
    place = f"{store}/benchmark-{uuid.uuid4().hex}"
    own = {"KD_STORE_URI": f"{place}/store", "KD_RUNS_URI": f"{place}/runs", "MLFLOW_TRACKING_URI": tracking}
    try:
        return seconds(words, own)
    finally:
        Storage(place).delete()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.services", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("words", nargs="*", help="words after `kd repro`, after --")
    options = parser.parse_args(argv)
    pairs = [(seconds(options.words, {}), over_services(options.words)) for _ in range(options.repeats)]
    folders, services = (statistics.median(side) for side in zip(*pairs, strict=True))
    print(f"folders and SQLite {folders:.1f} s, services {services:.1f} s, ratio {services / folders:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
