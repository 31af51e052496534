"""An encoder as it is, and a logistic regression on its mean-pooled states: what a user would try before distilling.

Of a pair each text is encoded alone; its features are both embeddings, their distance and their product (Conneau et
al. 2017, InferSent).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kd_core.config.data import TaskParams
from kd_core.inference.asking import ask
from kd_core.inference.batches import Batch, Encoded, encode
from kd_core.models.layers import attention_inputs, embed, encoder_layers, step
from kd_core.models.loading import load_encoder, load_tokenizer, save_tokenizer
from kd_core.runtime.arrays import Floats, Integers
from kd_core.runtime.errors import InvalidDataError
from kd_core.runtime.files import write_json
from kd_core.tasks import heads
from kd_core.tasks.units import Units

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedModel

INVERSE_REGULARISATION = 0.3
"""Of features with a variance of one: the best on the validation rows of the embedded default, of 0.001 to 1."""
_NEVER = -1e4
"""Bias of an output of which the rows teach nothing: its probability is 0."""
_ENCODER, _TENSORS, _CONFIG = "encoder", "linear.safetensors", "linear.json"


@dataclass(frozen=True)
class FrozenEncoder:
    """A fitted baseline."""

    encoder: PreTrainedModel
    tokenizer: Any
    weights: Floats
    """[C, F]: F = H for single texts, 4 H for pairs."""
    bias: Floats
    """[C]"""

    def answer(self, rows: pd.DataFrame, task: TaskParams) -> Units:
        """Probabilities [ΣU, C] of rows (text, text_pair), in the order of the task's labels.

        Raises InvalidDataError if it was fitted for another number of labels.
        """
        if len(self.bias) != len(task.labels):
            raise InvalidDataError("the frozen encoder was fitted for other labels; run baseline again")
        units = features(self.encoder, self.tokenizer, rows, task)
        logits = torch.from_numpy(units.values @ self.weights.T + self.bias)
        return units.with_values(heads.of(task.kind).probabilities(logits).numpy())

    def save(self, folder: Path) -> None:
        """Write encoder, tokenizer and regression to `folder`; nothing in them can run."""
        from safetensors.numpy import save_file

        self.encoder.save_pretrained(folder / _ENCODER)
        save_tokenizer(self.tokenizer, folder / _ENCODER)
        save_file({"weights": self.weights, "bias": self.bias}, folder / _TENSORS)
        write_json(folder / _CONFIG, {"outputs": len(self.bias), "features": self.weights.shape[1]})

    @classmethod
    def load(cls, folder: Path) -> FrozenEncoder:
        """The model saved in `folder`. Raises InvalidDataError if a file is missing or damaged."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            config = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            found = load_file(folder / _TENSORS)
            weights, bias = found["weights"], found["bias"]
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise InvalidDataError(f"{folder}: no readable regression ({error}); run baseline again") from None
        if weights.shape != (config["outputs"], config["features"]):
            raise InvalidDataError(f"{folder}: {_TENSORS} is not that of {_CONFIG}; run baseline again")
        return cls(load_encoder(folder / _ENCODER), load_tokenizer(folder / _ENCODER), weights, bias)


def is_frozen_encoder(folder: Path) -> bool:
    """Whether the folder holds such a model."""
    return (folder / _CONFIG).is_file()


def fit(base: Path, rows: pd.DataFrame, task: TaskParams, inverse: float = INVERSE_REGULARISATION) -> FrozenEncoder:
    """Fit the regression on labelled rows; the encoder in `base` stays as it is.

    Raises InvalidDataError where all rows have the same label.
    """
    encoder, tokenizer = load_encoder(base), load_tokenizer(base)
    rows = rows[rows["label"].notna()]
    found = features(encoder, tokenizer, rows, task)
    gold = encode(rows, tokenizer, task).targets.values
    if len(np.unique(gold, axis=0)) < 2:
        raise InvalidDataError("the frozen encoder's regression needs labelled rows of at least two classes")
    mean, spread = found.values.mean(0), np.maximum(found.values.std(0), 1e-6)
    outputs, weights, bias = heads.of(task.kind).probe((found.values - mean) / spread, gold, inverse)
    all_weights = np.zeros((len(task.labels), len(mean)))
    all_bias = np.array([_constant(gold, output) for output in range(len(task.labels))])
    all_weights[outputs] = weights / spread
    all_bias[outputs] = bias - all_weights[outputs] @ mean
    return FrozenEncoder(encoder, tokenizer, all_weights, all_bias)


def features(encoder: PreTrainedModel, tokenizer: Any, rows: pd.DataFrame, task: TaskParams) -> Units:
    """[ΣU, F] of all rows in double precision: the mean of each unit's last hidden states."""
    if not task.pair:
        return _embedded(encoder, encode(rows, tokenizer, task), tokenizer, task)
    single = task.model_copy(update={"pair": False})
    first, second = (
        _embedded(encoder, encode(rows.assign(text=rows[name]), tokenizer, single), tokenizer, task)
        for name in ("text", "text_pair")
    )
    one, two = first.values, second.values
    return first.with_values(np.concatenate([one, two, np.abs(one - two), one * two], axis=-1))


def _embedded(encoder: PreTrainedModel, encoded: Encoded, tokenizer: Any, task: TaskParams) -> Units:
    def answer(batch: Batch) -> Tensor:
        hidden = embed(encoder, batch)
        inputs = attention_inputs(encoder, hidden, batch["attention_mask"])
        for index in range(len(encoder_layers(encoder))):
            hidden = step(encoder, index, hidden, inputs)
        return heads.of(task.kind).gather(hidden, batch, "mean").double()

    return ask(encoder, answer, encoded, tokenizer.pad_token_id)


def _constant(gold: Integers, output: int) -> float:
    """The bias of an output that no row, or (with several labels a row) each row has."""
    always = gold.ndim > 1 and bool((gold[:, output] == 1).all())
    return -_NEVER if always else _NEVER
