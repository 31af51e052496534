"""What Hugging Face's configs call the kinds of tasks; its own pipelines read a model's logits by that name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedConfig

from kd_core.config.data import CLASSIFICATION, MULTI_LABEL, Kind
from kd_core.tasks import heads
from kd_core.tasks.kinds import kind_in

_KINDS: Mapping[str | None, Kind] = {heads.of(kind).PROBLEM_TYPE: kind for kind in (CLASSIFICATION, MULTI_LABEL)}


def name_kind(config: PreTrainedConfig, kind: Kind) -> None:
    """Write what a model's logits stand for into its config: in Hugging Face's words, or in ours where it has none."""
    config.problem_type = heads.of(kind).PROBLEM_TYPE
    if config.problem_type is None:
        config.kd_kind = kind


def kind_of(config: Any) -> Kind:
    """What a model's logits stand for, as its config says (`kind_in` where it does not)."""
    said = {"kind": getattr(config, "kd_kind", None) or _KINDS.get(config.problem_type)}
    return kind_in(said)
