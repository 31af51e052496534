"""The process that runs one stage of one run, in every runner: `python -m kd_ops.bridge --run RUN_URI STAGE`.

It installs signal handlers before the other imports: PID 1 of a container never receives an unhandled signal.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from kd_ops.bridge.stage_command import Stop


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the command line; returns the exit status."""
    stop = Stop()
    with stop.handled():
        parser = argparse.ArgumentParser(prog="python -m kd_ops.bridge", description="Run one stage of one run.")
        parser.add_argument("--run", required=True, help="the run's folder or URL, as resolve printed it")
        parser.add_argument("stage", help="STAGE or STAGE@ITEM")
        options = parser.parse_args(argv)
        return _run(options.run, options.stage, stop)


def _run(uri: str, name: str, stop: Stop) -> int:
    from kd_ops.base.entry import ended
    from kd_ops.bridge.stage_run import run_stage
    from kd_ops.runs.runs import Run
    from kd_ops.stages.graph import check_stage_name

    return ended(lambda: run_stage(Run(uri), check_stage_name(name), stop=stop, whole_process=True))


if __name__ == "__main__":
    sys.exit(main())
