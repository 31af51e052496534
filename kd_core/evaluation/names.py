"""What a person calls the models of metrics.json."""

from __future__ import annotations

_NAMES = {
    "trunk": "Student, all layers",
    "adaptive": "Student, early exits",
    "alone": "Student fine-tuned alone",
    "tfidf": "TF-IDF + logistic regression",
}


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
