"""What Hugging Face's configs call the kinds of tasks; its own pipelines read a model's logits by that name."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from kd_core.config.data import Kind
from kd_core.tasks import heads
from kd_core.tasks.kinds import kind_in


def name_kind(config: PreTrainedConfig, kind: Kind) -> None:
    """Write what a model's logits stand for into its config: in Hugging Face's words, or in ours where it has none."""
    config.problem_type = heads.of(kind).PROBLEM_TYPE
    if config.problem_type is None:
        config.kd_kind = kind


def kind_of(config: Any) -> Kind:
    """What a model's logits stand for, as its config says (`kind_in` where it does not)."""
    said = {"kind": getattr(config, "kd_kind", None) or heads.kind_of_problem(config.problem_type)}
    return kind_in(said)
