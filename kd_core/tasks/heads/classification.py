"""Classification: a text is one unit, pooled from its tokens; logits are those of a softmax over the classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from kd_core.config.student import Pooling
from kd_core.tasks.heads.modules import pool
from kd_core.tasks.heads.probes import multinomial
from kd_core.tasks.heads.protocol import Batch

BRANCHES = True
PROBLEM_TYPE = "single_label_classification"
AUTO_CLASS = AutoModelForSequenceClassification
probe = multinomial


def gather(hidden: Tensor, batch: Batch, pooling: Pooling) -> Tensor:
    """[B, L, H] → [B, 1, H]."""
    return pool(hidden, batch["attention_mask"], pooling).unsqueeze(1)


def probabilities(logits: Tensor) -> Tensor:
    """[…, C] → […, C] in float32: the softmax over the classes."""
    return logits.float().softmax(-1)


def log_distributions(logits: Tensor) -> Tensor:
    """Logits […, C] → log-probabilities in float32 […, C], summing to one over the last axis."""
    return F.log_softmax(logits.float(), dim=-1)


def log_of(given: Tensor) -> Tensor:
    """Probabilities […, C] → what `log_distributions` gives for their logits; finite also for 0."""
    return given.clamp_min(torch.finfo(torch.float32).tiny).log()


def as_logits(logs: Tensor) -> Tensor:
    """What `log_distributions` gives → logits […, C] with these distributions: the same."""
    return logs


def logits_of(given: Tensor) -> Tensor:
    """Logits […, C] whose probabilities are given: their logarithms."""
    return log_of(given)


def pipeline(model: Any, tokenizer: Any, max_length: int, device: Any) -> Callable[[list[Any]], Any]:
    """A teacher as `transformers.pipeline` runs it: the whole list in one call."""
    from transformers import pipeline as pipeline_of

    run: Any = pipeline_of("text-classification", model=model, tokenizer=tokenizer, device=device)
    return lambda texts: run(texts, batch_size=len(texts), truncation=True, max_length=max_length)


def from_transformers(logits: Tensor, batch: Batch) -> Tensor:
    """A sequence classifier's logits [B, C] → [B, 1, C]."""
    return logits.unsqueeze(1)


def as_transformers(logits: Tensor) -> Tensor:
    """[B, 1, C] → [B, C]."""
    return logits.squeeze(1)
