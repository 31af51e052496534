"""The run in a few numbers: the rows of the table that terminal, report and model card show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd_core.evaluation.names import display_name, main_metric, metric_name
from kd_core.evaluation.report.promise import promise
from kd_core.tasks.protocol import Sections

SHOWN = ("trunk", "adaptive", "alone", "frozen", "tfidf")


def speeds(measured: Mapping[str, Any], batch: int) -> dict[str, dict[str, Any]]:
    """Model → its row at one batch size."""
    return {row["model"]: row for row in measured["rows"] if row["batch"] == batch}


def largest_batch(measured: Mapping[str, Any]) -> int:
    """The batch size at which throughputs are compared."""
    return max(int(row["batch"]) for row in measured["rows"])


def smallest_batch(measured: Mapping[str, Any]) -> int:
    """The batch size at which latencies are compared: the wait of one caller."""
    return min(int(row["batch"]) for row in measured["rows"])


def summarise(
    metrics: Mapping[str, Any], measured: Mapping[str, Any], model: Mapping[str, Any], said: Sections
) -> dict[str, Any]:
    """summary.json: one row for each teacher, the student in full and with exits, and the baselines.

    Sizes, speeds (at the largest batch) and latencies (median, at the smallest) are null for models without timings.
    """
    batch, single = largest_batch(measured), smallest_batch(measured)
    speed, latency, metric = speeds(measured, batch), speeds(measured, single), main_metric(metrics)
    teachers = sorted(name for name in metrics["models"] if name.startswith("teacher:"))
    return {
        "main_metric": metric,
        "metric_name": metric_name(metrics),
        "rows": [
            _row(name, metrics["models"][name], metric, speed.get(name, {}), latency.get(name, {}))
            for name in (*teachers, *SHOWN)
        ],
        "batch": batch,
        "latency_batch": single,
        "confidence": metrics["confidence"],
        "best_teacher": metrics["best_teacher"],
        "gap_closed": metrics["gap_closed"],
        "gap_conclusion": metrics["gap_conclusion"],
        "thresholds": metrics["thresholds"],
        "exits": metrics["exits"],
        "conclusion": conclusion(metrics, speed, said),
        "promise": promise(model, metrics),
        "exits_conclusion": exits_conclusion(metrics, measured),
    }


def _row(
    name: str, quality: Mapping[str, Any], metric: str, speed: Mapping[str, Any], latency: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "model": name,
        "name": display_name(name),
        metric: quality[metric],
        "interval": quality[f"{metric}_interval"],
        "macro_f1": quality["macro_f1"],
        "size_mb": speed.get("size_mb"),
        "parameters": speed.get("parameters"),
        "samples_per_second": speed.get("samples_per_second"),
        "speedup": speed.get("speedup"),
        "latency_ms": latency.get("latency_ms", {}).get("p50"),
    }


def conclusion(metrics: Mapping[str, Any], speed: Mapping[str, Mapping[str, Any]], said: Sections) -> str:
    """The conclusion in plain sentences; only differences that the intervals support are called better or worse."""
    best, metric = metrics["best_teacher"], main_metric(metrics)
    student, teacher = (metrics["models"][name][metric] for name in ("adaptive", best))
    texts = f"{metrics['test']['rows']:,} test texts"
    reached = said.REACHED.format(share=f"{student:.1%}", texts=texts)
    sentences = [f"With early exits the student {reached}; the best teacher, {best.partition(':')[2]}, {teacher:.1%}."]
    if "adaptive" in speed and best in speed:
        times = speed["adaptive"]["samples_per_second"] / speed[best]["samples_per_second"]
        smaller = speed[best]["parameters"] / speed["adaptive"]["parameters"]
        sentences.append(f"It answers {times:.1f} times as many texts a second with {_times_fewer(smaller)} weights.")
    difference = metrics["differences"]["adaptive_minus_alone"]
    how = _direction(difference["low"], difference["high"])
    sentences.append(
        f"Compared with the same student fine-tuned alone it is {how} ({difference['value'] * 100:+.1f} points, "
        f"{metrics['confidence']:.0%} interval {difference['low'] * 100:+.1f} to {difference['high'] * 100:+.1f})."
    )
    return " ".join(sentences)


def exits_conclusion(metrics: Mapping[str, Any], measured: Mapping[str, Any]) -> str:
    """Cost and gain of early exits against all layers at each measured batch size; empty if they were not timed."""
    batches = sorted({int(row["batch"]) for row in measured["rows"]})
    timed = {batch: found for batch in batches if {"trunk", "adaptive"} <= set(found := speeds(measured, batch))}
    if not timed:
        return ""
    calls = [
        f"at batch {batch} a call takes {_ms(found, 'adaptive', 'p50')} ms, with all layers "
        f"{_ms(found, 'trunk', 'p50')} ms (99th percentile {_ms(found, 'adaptive', 'p99')} and "
        f"{_ms(found, 'trunk', 'p99')} ms)"
        for batch, found in timed.items()
    ]
    lost, metric = metrics["differences"]["adaptive_minus_trunk"], metric_name(metrics)
    cost = (
        f"{metric} changes by {lost['value'] * 100:+.1f} points ({metrics['confidence']:.0%} interval "
        f"{lost['low'] * 100:+.1f} to {lost['high'] * 100:+.1f})"
    )
    idle = [
        str(batch)
        for batch, found in timed.items()
        if found["adaptive"]["latency_ms"]["p50"] >= found["trunk"]["latency_ms"]["p50"]
    ]
    said = f"Early exits: {'; '.join(calls)}; {cost}."
    if not idle:
        return said
    return f"{said} They save no time at batch {' or '.join(idle)} here: threshold 0 serves all layers."


def _ms(speed: Mapping[str, Mapping[str, Any]], model: str, quantile: str) -> str:
    return f"{speed[model]['latency_ms'][quantile]:.2f}"


def _direction(low: float, high: float) -> str:
    if low > 0:
        return "better"
    return "worse" if high < 0 else "neither clearly better nor worse"


def _times_fewer(ratio: float) -> str:
    return f"{ratio:.1f} times fewer" if ratio >= 1 else f"{1 / ratio:.1f} times as many"
