"""Names of models and metrics in metrics.json, and in texts for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRUNK, ADAPTIVE = "trunk", "adaptive"
"""The student with all its layers, and with early exits at the chosen thresholds."""
CHOSEN = "chosen"
"""Key of the exit thresholds that the model serves with, one for each early exit."""

_NAMES = {
    TRUNK: "Student, all layers",
    ADAPTIVE: "Student, early exits",
    "alone": "Student fine-tuned alone",
    "frozen": "Frozen base, logistic regression",
    "tfidf": "TF-IDF, logistic regression",
}


def main_metric(document: Mapping[str, Any]) -> str:
    """Key of the main metric in metrics.json or summary.json: accuracy, unless the document names another."""
    return str(document.get("main_metric", "accuracy"))


def metric_name(document: Mapping[str, Any]) -> str:
    """The main metric's name for people in metrics.json or summary.json; in files of earlier releases its key."""
    return str(document.get("metric_name", main_metric(document)))


def titled(text: str) -> str:
    """The text with a capital first letter and the other letters unchanged."""
    return text[:1].upper() + text[1:]


def exits_name(threshold: float) -> str:
    """Name of the student with early exits at this threshold."""
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
