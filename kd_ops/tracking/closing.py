"""What a failed closing step leaves behind: a note in result.json, and an MLflow run that does not say FINISHED."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from kd_ops.base.outages import mlflow_unavailable
from kd_ops.base.redaction import redact
from kd_ops.base.settings import Settings
from kd_ops.registry.registry import connect
from kd_ops.runs.results import read_result, update_result
from kd_ops.runs.runs import Run
from kd_ops.tracking.track import final_status


def asked_run(module: str, about: str | None, argv: Sequence[str] | None = None) -> Run:
    """The run that the command line of a closing task names.

    :param about: the module's docstring, whose first line `--help` shows
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(about or "").splitlines()[0])
    parser.add_argument("--run", required=True, help="the run's folder or URI")
    return Run(parser.parse_args(argv).run)


@contextmanager
def closing_step(run: Run, settings: Settings, step: str) -> Iterator[None]:
    """Record how `step` of the run ended; a later success takes the failure back. What is raised goes on."""
    try:
        yield
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        update_result(run, failed={"step": step, "status": status, "error": redact(str(error))})
        if not mlflow_unavailable(error):
            _close_parent(run, settings)
        raise
    if (read_result(run).get("failed") or {}).get("step") == step:
        update_result(run, failed=None)
    _close_parent(run, settings)


def _close_parent(run: Run, settings: Settings) -> None:
    """Give the run's MLflow run, where there is one, the status that the run has now."""
    from mlflow.exceptions import MlflowException

    parent = read_result(run).get("mlflow_run")
    if parent is None:
        return
    try:
        connect(settings).set_terminated(parent, final_status(run, interrupted=False))
    except MlflowException as error:
        print(f"MLflow run {parent} does not show how its pipeline run ended: {error.message}", file=sys.stderr)
