"""Closes a run: tracks it and, if nothing was computed, also registers and promotes it:
`python -m kd_ops.promotion.close --run URI`.

Each of the three steps imports MLflow, which takes longer than the steps of a run that computed nothing. After other
runs each step has its own process: packing or judging a model may take long, and each step is retried alone. A step
that fails here is left to its own process, which repeats it and reports the failure.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from kd_core.runtime.files import to_json
from kd_ops.base.entry import main_process
from kd_ops.base.redaction import redact
from kd_ops.base.settings import Settings
from kd_ops.promotion.promote import promote_step
from kd_ops.registering.register import register_step
from kd_ops.runs.runs import Run
from kd_ops.tracking.track import final_status, track

STEPS: dict[str, Callable[[Run, Settings], None]] = {"register": register_step, "promote": promote_step}
"""The steps after tracking, in order, by the names of their tasks."""


def close(run: Run, settings: Settings, always: bool = False) -> list[str]:
    """Track the run; returns the names of the later steps that were also done, possibly none.

    :param always: do all steps even if something was computed, and raise the error that stops a step
    """
    print(f"logged to MLflow run {track(run, settings)}")
    done: list[str] = []
    for name in STEPS if always or _is_without_news(run) else ():
        try:
            STEPS[name](run, settings)
        except Exception as error:
            if always:
                raise
            print(f"{name} is left to its own process: {redact(str(error))}", file=sys.stderr)
            break
        done.append(name)
    return done


def _is_without_news(run: Run) -> bool:
    """Whether the run has all its stages, and had them before it started."""
    return final_status(run, interrupted=False) == "FINISHED" and all(each.cached for each in run.stages().values())


def main(argv: list[str] | None = None) -> None:
    """Entry point of the first closing task; writes the names of the steps that need no process to a JSON file."""
    parser = argparse.ArgumentParser(
        prog="python -m kd_ops.promotion.close", description="Track a run, and close it where nothing was computed."
    )
    parser.add_argument("--run", required=True, help="the run's folder or URI")
    parser.add_argument("--always", action="store_true", help="register and promote whatever was computed")
    parser.add_argument("--answer", type=Path, help="a file for the names of the steps that are done")
    options = parser.parse_args(argv)
    done = close(Run(options.run), Settings(), options.always)
    if options.answer is not None:
        options.answer.write_bytes(to_json({"settled": done}))


if __name__ == "__main__":
    main_process(main)
