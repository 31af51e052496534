"""The run's `result.json` (what was registered and decided) and the copy of its report for a person."""

from __future__ import annotations

from typing import Any

from kd_core.runtime.files import to_json
from kd_ops.runs.outs import Outs
from kd_ops.runs.runs import Run


def read_result(run: Run) -> dict[str, Any]:
    """registration and verdict so far: model, verdict, reasons, mlflow_run; and cpu_seconds, of all processes of the
    `kd run` or `kd repro` that made the run.
    """
    return run.read_json("result.json") or {}


def update_result(run: Run, **values: Any) -> None:
    """Add to or replace parts of result.json."""
    run.storage.write("result.json", to_json(read_result(run) | values))


def copy_report(run: Run, outs: Outs) -> str:
    """Copy the report out into the run's folder; path or URI of report.html, "" if there is none yet."""
    if "report" not in outs.hashes():
        return ""
    for name in outs.files("report"):
        run.storage.write(f"report/{name}", outs.read(f"report/{name}"))
    return report_path(run)


def report_path(run: Run) -> str:
    """Where the copied report.html lies; "" if it was not copied."""
    if not run.storage.exists("report/report.html"):
        return ""
    return f"{run.uri}/report/report.html"
