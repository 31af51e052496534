"""Measures the served model's speed relative to a fixed amount of work, so that two runs can be compared.

Another program on the machine can make a timing several times worse. So both runs also time a workload that depends on
neither recipe nor model: a small BERT of fixed shape and weights. Model and workload take turns call by call, so that a
slow moment affects both. The result is the median of the pairs' ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from transformers import BertConfig, BertModel

from kd_core.evaluation.measurement.contestants import Contestant

LAYERS, WIDTH, HEADS, VOCABULARY, TOKENS = 4, 128, 4, 1000, 16
"""Size and kind are those of a student, so that both are slowed down by the same causes."""

_SEED = 0


@dataclass(frozen=True)
class RelativeLatency:
    """Median latency of a model, with one row per call, relative to that of the reference workload."""

    ratio: float
    reference_ms: float


def relative_latency(
    contestant: Contestant, rows: Sequence[pd.DataFrame], repeats: int, device: torch.device
) -> RelativeLatency:
    """Time the model and the reference workload in turns.

    :param rows: one row each
    :param repeats: number of passes over all rows
    """
    work = reference_workload(device)
    work()  # a warm-up does not count
    contestant.answer(rows[0])
    pairs = [(_seconds(contestant.answer, row), _seconds(work)) for _ in range(repeats) for row in rows]
    seconds = np.array(pairs)
    return RelativeLatency(
        ratio=round(float(np.median(seconds[:, 0] / seconds[:, 1])), 4),
        reference_ms=round(float(np.median(seconds[:, 1])) * 1000, 4),
    )


def reference_workload(device: torch.device) -> Callable[[], torch.Tensor]:
    """One pass of TOKENS tokens through the fixed model; the last hidden states, [1, TOKENS, WIDTH]."""
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = BertModel(config, add_pooling_layer=False).eval().to(device)
    tokens = torch.arange(TOKENS, device=device).unsqueeze(0)
    mask = torch.ones_like(tokens)

    def work() -> torch.Tensor:
        with torch.inference_mode():
            states: torch.Tensor = model(input_ids=tokens, attention_mask=mask).last_hidden_state
            return states.cpu()

    return work


def _seconds(call: Callable[..., object], *words: object) -> float:
    began = time.perf_counter()
    call(*words)
    return time.perf_counter() - began
