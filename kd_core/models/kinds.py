"""What Hugging Face's configs call the kinds of tasks; its own pipelines read a model's logits by that name."""

from __future__ import annotations

from collections.abc import Mapping

from transformers import PreTrainedConfig

from kd_core.config.data import MULTI_LABEL, Kind

PROBLEM_TYPES: Mapping[Kind, str] = {
    "classification": "single_label_classification",
    MULTI_LABEL: "multi_label_classification",
}


def kind_of(config: PreTrainedConfig) -> Kind:
    """What a model's logits stand for; classification where its config does not say."""
    return MULTI_LABEL if config.problem_type == PROBLEM_TYPES[MULTI_LABEL] else "classification"
