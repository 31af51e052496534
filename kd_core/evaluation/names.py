"""What metrics.json calls the models and metrics, and what a person does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRUNK, ADAPTIVE = "trunk", "adaptive"
"""The student with all its layers, and with early exits at the chosen thresholds."""
CHOSEN = "chosen"
"""Among exit thresholds: those that the model serves with, one an early exit."""

_NAMES = {
    TRUNK: "Student, all layers",
    ADAPTIVE: "Student, early exits",
    "alone": "Student fine-tuned alone",
    "tfidf": "TF-IDF, logistic regression",
}


def main_metric(document: Mapping[str, Any]) -> str:
    """Key of the main metric in metrics.json or summary.json: accuracy, unless the document names another."""
    return str(document.get("main_metric", "accuracy"))


def metric_name(document: Mapping[str, Any]) -> str:
    """What metrics.json or summary.json calls the main metric, in a person's words; earlier releases: its key."""
    return str(document.get("metric_name", main_metric(document)))


def titled(text: str) -> str:
    """The text with a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def exits_name(threshold: float) -> str:
    """The student with early exits at this threshold."""
    return f"{ADAPTIVE}@{threshold:g}"


def display_name(model: str) -> str:
    """`teacher:minilm` → Teacher minilm, `branch:1` → Student, exit after layer 1, and so on."""
    kind, _, rest = model.partition(":")
    if kind == "teacher":
        return f"Teacher {rest}"
    if kind == "pipeline":
        return f"Teacher {rest} through transformers.pipeline"
    if kind == "branch":
        return f"Student, all leave after layer {rest}"
    if model.startswith("adaptive@"):
        return f"Student, early exits at threshold {model.partition('@')[2]}"
    return _NAMES.get(model, model)
