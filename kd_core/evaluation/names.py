"""What metrics.json calls the models, and what a person does."""

from __future__ import annotations

TRUNK, ADAPTIVE = "trunk", "adaptive"
"""The student with all its layers, and with early exits at the chosen thresholds."""
CHOSEN = "chosen"
"""Among exit thresholds: those that the model serves with, one an early exit."""

_NAMES = {
    TRUNK: "Student, all layers",
    ADAPTIVE: "Student, early exits",
    "alone": "Student fine-tuned alone",
    "tfidf": "TF-IDF + logistic regression",
}


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
