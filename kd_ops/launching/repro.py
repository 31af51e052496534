"""Runs a run's stages one after another on this machine, each through the bridge, without Airflow."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from kd_ops.base.entry import ended, stop_on_signals
from kd_ops.base.settings import PROJECT, Settings
from kd_ops.bridge.stage_command import die_with_parent
from kd_ops.lineage.reuse import settle
from kd_ops.runs.runs import Run
from kd_ops.stages.code_snapshot import stage_names


def repro(run: Run, names: Sequence[str] = (), started: Callable[[str], None] | None = None) -> int:
    """Run all stages, or those named, in order; stops at the first that fails and returns its exit status.

    Those whose results the store has need no process, unless they are named. `started` is told the name of each other
    one before it begins. A signal to this process is passed on to the stage.
    """
    settings = Settings()
    settled = () if names else settle(run, settings)
    for name in names or stage_names(run, settings):
        if name in settled:
            continue
        if started is not None:
            started(name)
        if status := _bridge(run, name):
            return status
    return 0


def _bridge(run: Run, stage: str) -> int:
    """One bridge process. It has its own session, so that a Ctrl-C at the terminal reaches it once, through us."""
    command = [sys.executable, "-m", "kd_ops.bridge", "--run", run.uri, stage]
    process = subprocess.Popen(command, cwd=PROJECT, start_new_session=True, preexec_fn=die_with_parent)
    try:
        status = process.wait()
    except BaseException:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    return 128 - status if status < 0 else status


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kd_ops.launching.repro", description="Run all stages of a run.")
    parser.add_argument("--run", required=True, help="the run's folder or URL")
    options = parser.parse_args(argv)
    stop_on_signals()
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup has it
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    return ended(lambda: repro(Run(options.run), started=lambda name: print(f"── {name}", file=sys.stderr, flush=True)))


if __name__ == "__main__":
    sys.exit(main())
