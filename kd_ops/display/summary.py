"""The closing words of a run: the table of models, what was registered and why, and where the report lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from kd_core.evaluation.names import main_metric, metric_name
from kd_ops.base.settings import is_local
from kd_ops.display.board import StageView
from kd_ops.runs.events import duration

VERDICT_STYLE = {"PROMOTE": "bold green", "HOLD": "bold yellow", "REJECT": "bold red"}


def print_summary(console: Console, summary: dict[str, Any], result: dict[str, Any], report: str) -> None:
    """Print the table, the gap closed (where the summary has one), the registered model and the report's path."""
    if summary:
        console.print()
        console.print(model_table(summary))
        for line in facts(summary):
            console.print(line, highlight=False)
    if result:
        console.print()
        for line in registration(result):
            console.print(line, highlight=False, soft_wrap=True)
    if report:
        console.print()
        address = f"file://{report}" if is_local(report) else report
        console.print(Text.assemble("report  ", (report, f"link {address} cyan")), soft_wrap=True)


def model_table(summary: dict[str, Any]) -> Table:
    """One row a model: main metric with its interval, size, throughput, speed-up over the slowest teacher, latency.

    It fits a terminal of 80 columns: units and batch sizes stand in the header and the caption.
    """
    batches = f"samples/s and speed-up at batch {summary['batch']}, ms at batch {summary.get('latency_batch', 1)}"
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold", caption=batches)
    table.caption_justify, metric = "right", main_metric(summary)
    table.add_column("model")
    for name in (metric_name(summary), f"{summary['confidence']:.0%} interval", "MB", "samples/s", "speed-up", "ms"):
        table.add_column(name, justify="right")
    for row in summary.get("rows", []):
        style = "bold green" if row["model"] == "adaptive" else ""
        low, high = row["interval"]
        table.add_row(
            escape(row["name"]),
            _number(row.get(metric), "{:.1%}"),
            f"{low * 100:.1f}–{high * 100:.1f}",
            _number(row.get("size_mb"), "{:.1f}"),
            _number(row.get("samples_per_second"), "{:,.0f}"),
            _number(row.get("speedup"), "{:.1f}×"),
            _number(row.get("latency_ms"), "{:.1f}"),
            style=style,
        )
    return table


def facts(summary: dict[str, Any]) -> list[str]:
    """Gap closed, exits with what was promised of them, what they cost and gain; as far as the summary has them."""
    lines = []
    gap = summary.get("gap_closed")
    if gap:
        lines.append(f"gap closed: [bold]{gap['value']:.0%}[/] (early exits: {gap['adaptive']:.0%})")
    if conclusion := summary.get("gap_conclusion"):
        lines.append(escape(conclusion))
    exits = summary.get("exits")
    if isinstance(exits, dict) and exits:
        shares = ", ".join(f"layer {layer} {share:.0%}" for layer, share in exits.items())
        thresholds = summary.get("thresholds") or []
        at = f" at {', '.join(f'{value:.3g}' for value in thresholds)}" if thresholds else ""
        lines.append(f"answers leave{at}: {shares}")
    lines += [escape(summary[name]) for name in ("promise", "exits_conclusion") if summary.get(name)]
    return lines


def registration(result: dict[str, Any]) -> list[str]:
    """The registered version with its aliases, and the verdict with its reasons."""
    lines = []
    model = result.get("model") or {}
    if model:
        aliases = ", ".join(model.get("aliases") or []) or "no alias"
        state = "deleted from the registry since" if model.get("deleted") else aliases
        lines.append(f"registered  [bold]{escape(model['name'])}[/] version {model['version']} ({escape(state)})")
    verdict = result.get("verdict")
    if verdict:
        lines.append(f"gate        [{VERDICT_STYLE.get(verdict, 'bold')}]{verdict}[/]")
        lines += [f"            {escape(reason)}" for reason in result.get("reasons", [])]
    return lines


def cache_line(stages: Sequence[StageView], seconds: float) -> str:
    """How much was computed: "nothing to compute" where every stage was found in the cache."""
    cached = sum(view.cached for view in stages)
    if stages and cached == len(stages):
        return f"nothing to compute: all {len(stages)} stages are unchanged ({duration(seconds)})"
    return f"{len(stages) - cached} of {len(stages)} stages computed, {cached} unchanged ({duration(seconds)})"


def _number(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, int | float) else "–"
