"""The model card in Markdown: the model's purpose, origin, quality, speed and limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kd_core.evaluation.names import titled
from kd_core.evaluation.report.findings import Findings
from kd_core.evaluation.report.promise import named_thresholds


def render(findings: Findings, summary: Mapping[str, Any]) -> str:
    """The whole card."""
    parts = [_title(findings), _use(findings), _training(findings), _results(findings, summary)]
    return "\n\n".join([*parts, _exits(findings, summary), _limits(findings), _loading(findings)]) + "\n"


def _title(findings: Findings) -> str:
    kind = "pairs of texts" if findings.task.pair else "single texts"
    student = next(row for row in findings.measured["rows"] if row["model"] == "adaptive")
    does = findings.sections.DOES.format(texts=kind, labels=len(findings.task.labels))
    return (
        f"# {findings.recipe}: distilled student\n\n"
        f"{_sort(findings.model['exits'][-1])} that {does}. "
        f"{student['parameters']:,} parameters, {student['size_mb']:.1f} MB."
    )


def _sort(layers: int) -> str:
    """The sort of student, by its number of layers."""
    if layers == 0:
        return "A static encoder (the weighted mean of token embeddings, then a feed-forward layer; no layers)"
    return f"A small transformer encoder with early exits, {layers} layers,"


def _use(findings: Findings) -> str:
    labels = ", ".join(f"`{_cell(label)}`" for label in findings.task.labels)
    return (
        "## Intended use\n\n"
        f"Texts like those it was trained on (see below), up to {findings.task.max_length} tokens; longer ones are "
        f"cut. {findings.sections.GIVEN}\n\n"
        f"Labels: {labels}"
    )


def _training(findings: Findings) -> str:
    data = findings.dataset
    rows = [f"| {split} | {count:,} |" for split, count in data["counts"].items()]
    teachers = [f"- {_cell(name)}: {_teacher(record)}" for name, record in findings.teachers.items()]
    return "\n".join(
        [
            "## Data",
            "",
            f"Revision `{_cell(data['revision'])}`, hash `{data['hash'][:12]}`.",
            "",
            "| split | rows |",
            "|---|---:|",
            *rows,
            "",
            "Near-duplicates stand on one side of the split. No training stage reads the test rows.",
            "",
            "## Teachers",
            "",
            *teachers,
        ]
    )


def _teacher(record: Mapping[str, Any]) -> str:
    found = [f"{key.replace('_', ' ')} {value:,g}" for key, value in record["contract"].items()]
    origin = f"`{_cell(record['weights'])}`, fingerprint `{record['fingerprint'][:12]}`"
    return f"{origin}; on validation rows {', '.join(found)}"


def _results(findings: Findings, summary: Mapping[str, Any]) -> str:
    head, metric = f"{summary['confidence']:.0%} interval", findings.metric
    lines = [
        f"| model | {findings.metric_name} | {head} | macro-F1 | log-loss | ECE | texts/s | speed-up |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in summary["rows"]:
        quality = findings.metrics["models"][row["model"]]
        low, high = row["interval"]
        speed = f"{row['samples_per_second']:,.0f}" if row["samples_per_second"] else "–"
        times = f"{row['speedup']:.1f}×" if row["speedup"] else "–"
        numbers = f"{quality['macro_f1']:.3f} | {quality['log_loss']:.3f} | {quality['ece']:.3f}"
        lines.append(
            f"| {_cell(row['name'])} | {row[metric]:.1%} | {low:.1%} – {high:.1%} | {numbers} | {speed} | {times} |"
        )
    return "\n".join(
        [
            "## Results",
            "",
            f"On {findings.metrics['test']['rows']:,} test rows; intervals resample groups of near-duplicates. "
            f"Speed at batch {summary['batch']}, tokenisation included, on {_machine(findings)}; ratios carry over to "
            "other machines better than absolute numbers.",
            "",
            *lines,
            "",
            summary["conclusion"] + f" {titled(summary['gap_conclusion'])}.",
        ]
    )


def _exits(findings: Findings, summary: Mapping[str, Any]) -> str:
    metrics = findings.metrics
    used = ", ".join(f"{share:.0%} after layer {layer}" for layer, share in metrics["exits"].items())
    return (
        "## Early exits and calibration\n\n"
        "A text is answered at the first exit whose normalised entropy is below its threshold: "
        f"{named_thresholds(metrics['thresholds'])}. {summary['promise']} Test texts are answered {used}. Threshold 0 "
        "is the full model; `max_disagreement` in a request chooses other thresholds. ECE, the "
        f"mean gap between confidence and accuracy, is {metrics['models']['adaptive']['ece']:.3f}.\n\n"
        f"{summary['exits_conclusion']}"
    )


def _limits(findings: Findings) -> str:
    worst, told = findings.tables["confusion"]["classes"][:3], findings.sections
    named = ", ".join(f"`{_cell(entry['label'])}` ({told.how(entry)})" for entry in worst)
    return (
        "## Limits\n\n"
        f"- Lowest {told.LOWEST} on the test rows: {named}.\n"
        f"{_masked(findings)}"
        "- Measured on data like its training data only; other sources, languages or styles were not tested.\n"
        "- It inherits mistakes and biases of its teachers and of the text that they were trained on.\n"
        "- The best teacher is named by the same test rows, which flatters it slightly."
    )


def _masked(findings: Findings) -> str:
    """The main metric without the labels' names; empty if the source knows none."""
    masked = findings.metrics.get("masked")
    if masked is None:
        return ""
    student, plain = masked["models"]["adaptive"], findings.metrics["models"]["adaptive"]
    metric = findings.metric
    return (
        f"- A name of the label stands in {masked['changed']:,} of {masked['rows']:,} test rows. With it masked, "
        f"{findings.metric_name} is {student[metric]:.1%} instead of {plain[metric]:.1%}; on these rows alone "
        f"{student['changed_masked']:.1%} instead of {student['changed']:.1%}.\n"
    )


def _loading(findings: Findings) -> str:
    pair = findings.task.pair
    call = 'pandas.DataFrame({"text": ["…"], "text_pair": ["…"]})' if pair else '["…"]'
    imports = "import pandas\n\n" if pair else ""
    return (
        "## How to load\n\n"
        f"```python\n{imports}from kd_core.serving.predictor import Predictor\n\n"
        f'predictor = Predictor.load("models/student")\npredictor.predict({call})  # label, probability, exit_layer, '
        "entropy\n```\n\n"
        'Or `kd predict --model models:/…@champion "…"`. Weights are safetensors, nothing is unpickled. A registered '
        "version carries the `kd_core` that it was made with, and whoever loads it runs that code."
    )


def _machine(findings: Findings) -> str:
    machine = findings.measured["machine"]
    where = machine.get("cpu", "an unnamed machine") if findings.measured["device"] == "cpu" else "a GPU"
    return f"{_cell(str(where))} with {findings.measured['threads']} threads"


def _cell(text: str) -> str:
    """Text that cannot break a table, code span or line."""
    return " ".join(text.replace("|", "\\|").replace("`", "'").split())
