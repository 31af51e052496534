"""The report: one HTML file with pictures that opens offline, summary.json and the model card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_core.evaluation.names import display_name, main_metric, metric_name, titled
from kd_core.evaluation.report import model_card, plots
from kd_core.evaluation.report.findings import Findings
from kd_core.evaluation.report.promise import named_thresholds
from kd_core.evaluation.report.summary import largest_batch, speeds, summarise
from kd_core.runtime.files import write_json

TEMPLATES = Path(__file__).parent / "templates"


def write(findings: Findings, folder: Path) -> None:
    """Write report.html, model_card.md and summary.json."""
    summary = summarise(findings.metrics, findings.measured, findings.model, findings.sections)
    (folder / "report.html").write_text(render(findings, summary), encoding="utf-8")
    (folder / "model_card.md").write_text(model_card.render(findings, summary), encoding="utf-8")
    write_json(folder / "summary.json", summary)


def render(findings: Findings, summary: Mapping[str, Any]) -> str:
    """The HTML; every text that came from data is escaped."""
    from markupsafe import Markup

    pictures = {name: Markup(svg) for name, svg in _pictures(findings).items()}  # noqa: S704  # drawn here, not given
    template = environment().get_template("report.html.j2")
    splits = ("train", "valid", "calibration", "test", "unlabelled")
    return str(template.render(f=findings, summary=summary, pictures=pictures, splits=splits, tiles=tiles(summary)))


def environment() -> Any:
    """A Jinja environment with escaping on and the report's number formats."""
    import jinja2

    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    found.filters |= {"share": share, "number": number, "model": display_name, "titled": titled}
    found.filters["thresholds"] = named_thresholds
    return found


def share(value: float | None, digits: int = 1) -> str:
    """0.8473 → 84.7%; none → –."""
    return "–" if value is None else f"{value:.{digits}%}"


def number(value: float | None, digits: int = 0) -> str:
    """1234.5 → 1,234 (or with digits); none → –."""
    return "–" if value is None else f"{value:,.{digits}f}"


def tiles(summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """The large numbers at the top: value, meaning, and what to compare it with."""
    rows, metric = {row["model"]: row for row in summary["rows"]}, main_metric(summary)
    named = metric_name(summary)
    student, best = rows["adaptive"], rows[summary["best_teacher"]]
    low, high = student["interval"]
    found = [
        {
            "value": share(student[metric]),
            "name": f"{named} with early exits",
            "note": f"{summary['confidence']:.0%} interval {share(low)} – {share(high)}",
        },
        {"value": share(best[metric]), "name": f"{named} of the best teacher", "note": best["name"]},
    ]
    if student["speedup"] is not None:
        note = f"{number(student['samples_per_second'])} texts/s at batch {summary['batch']}"
        found.append({"value": f"{student['speedup']:.1f}×", "name": "the slowest teacher's speed", "note": note})
    if student["size_mb"] is not None and best["size_mb"] is not None:
        note = f"the best teacher: {best['size_mb']:.1f} MB"
        found.append({"value": f"{student['size_mb']:.1f} MB", "name": "weights on disk", "note": note})
    gap = summary["gap_closed"]
    if gap is not None:
        low, high = gap["interval"]
        note = f"all layers; interval {share(low, 0)} – {share(high, 0)}"
        found.append({"value": share(gap["value"], 0), "name": "of the gap to the best teacher closed", "note": note})
    return found


def _pictures(findings: Findings) -> dict[str, str]:
    metrics, tables, batch = findings.metrics, findings.tables, largest_batch(findings.measured)
    speedups = {name: row["speedup"] for name, row in speeds(findings.measured, batch).items()}
    return {
        "tradeoff": plots.tradeoff(metrics, findings.measured["curve"], speedups, batch),
        "exits": plots.exits(tables["exits"]),
        "reliability": plots.reliability(tables["reliability"], metrics),
        "confusion": plots.confusion(tables["confusion"], findings.sections.COUNTED),
        "training": plots.training(findings.histories),
    }
