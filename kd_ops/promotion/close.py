"""Closes a run: tracks it and, where nothing was computed, registers and promotes too:
`python -m kd_ops.promotion.close --run URI`.

Each of the three imports MLflow, which takes longer than all that a run without news has to say to it. After a run that
computed something they are processes of their own, as before: packing a model or judging it may take long, and each
is tried again alone. A step that fails here is left to its own process, which does it again and says why it fails.
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
"""What follows tracking, in this order; named as the tasks are."""


def close(run: Run, settings: Settings, always: bool = False) -> list[str]:
    """Track the run; the steps after that which are done too, which may be none.

    :param always: do all steps, whatever was computed, and raise what stops one of them
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
    """Whether the run has all its stages, and had them before it began."""
    return final_status(run, interrupted=False) == "FINISHED" and all(each.cached for each in run.stages().values())


def main(argv: list[str] | None = None) -> None:
    """Entry point of the first closing task; the names of the steps that need no process go to a file as JSON."""
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
