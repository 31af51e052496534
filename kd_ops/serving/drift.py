"""`kd drift`: whether what a model is asked in service still looks, to it, like what it was calibrated on."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from kd_ops.base.settings import Settings
from kd_ops.serving.served import serve

if TYPE_CHECKING:
    from kd_core.evaluation.statistics.drift import Drift, Test

DRIFTED = 3
"""Exit status where there is drift; free of what errors and schedulers mean by theirs."""


def drift(model: str, folder: Path, days: float, confidence: float, min_effect: float, settings: Settings) -> Drift:
    """Compare a model's answers of the last days with what its calibration texts make it do.

    Raises ParamsError for a model that does not exist, InvalidDataError for logs that are missing, damaged or another
    version's, TryAgainError for too few answers.
    """
    from kd_core.evaluation.statistics.drift import compare, read_log, read_reference

    served = serve(model, settings)
    served.check_dial()
    described = served.described()
    log = read_log(folder, described.identity, datetime.now(UTC) - timedelta(days=days))
    reference = read_reference(served.student / described.profile, described.exits)
    return compare(log, reference, described.exits, confidence, min_effect)


def print_drift(found: Drift, as_json: bool, console: Console) -> int:
    """Print what was found; the exit status."""
    if as_json:
        print(json.dumps({"drifted": found.drifted, **asdict(found)}, indent=1))
    else:
        console.print(_table(found))
        for line in _facts(found):
            console.print(line, highlight=False, soft_wrap=True)
    return DRIFTED if found.drifted else 0


def _table(found: Drift) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("answered after", "calibration", "log"):
        table.add_column(name, justify="left" if name == "answered after" else "right")
    for layer, (reference, log) in found.exits.items():
        table.add_row(f"layer {layer}", f"{reference:.1%}", f"{log:.1%}")
    table.add_row("median entropy", *(f"{value:.3f}" for value in found.median_entropy))
    return table


def _facts(found: Drift) -> list[str]:
    lines = [
        f"{found.answers:,} answers against {found.reference_rows:,} calibration texts",
        f"exit layers: {_said(found.exit_layers)}",
        f"entropy: {_said(found.entropy)}",
        "[bold red]drift[/]" if found.drifted else "[bold green]no drift[/]",
    ]
    if found.other_thresholds:
        lines.insert(1, f"{found.other_thresholds:,} answers to requests with other exit thresholds are left out")
    return lines


def _said(test: Test) -> str:
    return f"{test.effect:.1%} apart, p = {test.p_value:.2g}" + (" – drift" if test.drifted else "")
