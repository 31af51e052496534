"""The comparison as Markdown: tables, what was expected and what was seen, and under which conditions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.claims import Finding
from benchmarks.comparison import Comparison, Line
from benchmarks.exits import ExitTable

Numbers = tuple[float, float, float]


def heading(conditions: Mapping[str, Any]) -> str:
    """Command, machine, versions."""
    lines = [f"`{conditions['command']}`", "", *(f"- {key}: {value}" for key, value in conditions.items())]
    return "\n".join(line for line in lines if not line.startswith("- command")) + "\n"


def section(title: str, found: Comparison, seeds: Sequence[int], reference: str | None) -> str:
    """One data set with one number of gold labels."""
    counts = found.data["counts"]
    rows = ", ".join(f"{split} {count:,}" for split, count in counts.items())
    shared = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in found.shared_seconds.items())
    parts = [
        f"## {title}",
        f"Rows: {rows}. Data hash `{found.data['hash'][:16]}`. Seeds {', '.join(map(str, seeds))}. "
        f"Best teacher: {found.best_teacher}. Shared by all arms and seeds: {shared}.",
        *(f"- {note}" for note in found.data["notes"]),
        accuracies(found.lines, reference, found.metric),
        findings(found.findings),
    ]
    if found.exits:
        parts.append(exit_tables(found.exits))
    return "\n\n".join(part for part in parts if part) + "\n"


def accuracies(lines: Sequence[Line], reference: str | None, metric: str) -> str:
    """One row a contestant; `metric` is what their accuracies are."""
    head = ["", metric, "95 % interval", "sd over seeds", "of best teacher", "gap closed"]
    head += [f"− {reference}"] if reference else []
    head += ["training", "students a text"]
    return table(head, [_cells(line, reference) for line in lines])


def _cells(line: Line, reference: str | None) -> list[str]:
    low, high = line.interval
    cells = [line.name, percent(line.accuracy), f"{percent(low)} – {percent(high)}", f"{100 * line.deviation:.1f}"]
    cells += [_share(line.share_of_best_teacher), _share(line.gap_closed) if line.gap_closed else ""]
    cells += [_points(line.minus_reference) if line.minus_reference else ""] if reference else []
    seconds = "" if line.training_seconds is None else f"{line.training_seconds:.0f} s"
    return [*cells, seconds, "" if line.students is None else str(line.students)]


def findings(found: Sequence[Finding]) -> str:
    """Expected against seen."""
    rows = []
    for each in found:
        numbers = (each.seen, each.low, each.high)
        seen = _share(numbers) if "% of" in each.claim else _points(numbers)
        rows.append(
            [each.claim, each.because, seen, "" if each.p_value is None else f"{each.p_value:.3f}", each.verdict]
        )
    return table(["expected", "because", "seen", "p (Holm)", ""], rows) if rows else ""


def exit_tables(found: Mapping[str, ExitTable]) -> str:
    """Accuracy of each exit, and who leaves there."""
    layers = sorted({layer for each in found.values() for layer in each.layers})
    head = ["exits", *(f"layer {layer}" for layer in layers), *(f"leave at {layer}" for layer in layers), "mean layers"]
    rows = []
    for name, each in found.items():
        accuracy = [percent(each.accuracy[str(layer)]) if layer in each.layers else "" for layer in layers]
        left = [percent(each.shares[str(layer)]) if layer in each.layers else "" for layer in layers]
        rows.append([name, *accuracy, *left, f"{each.mean_layers:.2f}"])
    return table(head, rows)


def curve(by_labels: Mapping[str, Comparison]) -> str:
    """Accuracy by number of gold labels a class: one column a contestant."""
    names = [line.name for line in next(iter(by_labels.values())).lines]
    rows = []
    for labels, found in by_labels.items():
        accuracy = {line.name: percent(line.accuracy) for line in found.lines}
        rows.append([labels, *(accuracy.get(name, "") for name in names)])
    return table(["labels a class", *names], rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent(value: float) -> str:
    """With one digit."""
    return f"{100 * value:.1f} %"


def _share(numbers: Numbers) -> str:
    value, low, high = (100 * number for number in numbers)
    return f"{value:.1f} % [{low:.1f}, {high:.1f}]"


def _points(numbers: Numbers) -> str:
    value, low, high = (100 * number for number in numbers)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
