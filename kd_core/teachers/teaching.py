"""Fine-tunes a teacher on the gold labels of its data set: first its new classifier alone, then everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from kd_core.config.training import Optimisation
from kd_core.inference.asking import ask
from kd_core.inference.batches import Batch, Encoded, encode
from kd_core.tasks import heads
from kd_core.tasks import loss as losses
from kd_core.tasks.units import UNIT_MASK, Units
from kd_core.teachers.head_layers import pass_features_on, pass_through_relu
from kd_core.teachers.model import Teacher
from kd_core.training.checkpoint import Curves
from kd_core.training.loop import train
from kd_core.training.texts import TARGETS, batches_of, validation_on
from kd_core.training.work import Work

if TYPE_CHECKING:
    import pandas as pd


PROBE_REGULARISATION = 10.0
"""Inverse strength of the probe's L2 penalty, on the features as they are.

Not on standardised ones: behind a saturated tanh features hardly move, and weights that make up for that would turn
the fine-tuning's dropout into a storm."""


def fine_tune(
    teacher: Teacher,
    rows: pd.DataFrame,
    valid: pd.DataFrame,
    optimisation: Optimisation,
    work: Work,
) -> Curves:
    """Cross-entropy on labelled `rows`, all weights, in place; the main metric on `valid` after each epoch.

    The classifier starts from a linear probe (Kumar et al. 2022, LP-FT): with few labels a random one would spend
    most of the epochs on finding its direction, and bend the encoder meanwhile.
    """
    encoded, checked = (encode(each, work.tokenizer, teacher.task) for each in (rows, valid))
    budget, pad_id, kind = optimisation.batch_tokens, work.tokenizer.pad_token_id, teacher.kind
    pass_features_on(teacher.model)
    pass_through_relu(
        teacher.model, _classifier(teacher), lambda: ask(teacher.model, teacher.logits, encoded, pad_id, budget)
    )
    probe(teacher, encoded, budget)
    batches = batches_of(encoded, pad_id, budget, {TARGETS: encoded.targets})

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": losses.of(kind).hard(teacher.logits(batch), batch[TARGETS], batch[UNIT_MASK])}

    def answer(batch: Batch) -> Tensor:
        return heads.of(kind).probabilities(teacher.logits(batch))

    validation = validation_on(teacher.model, answer, checked, pad_id, budget, kind)
    return train(teacher.model, loss, batches, optimisation, work, validation)


def probe(teacher: Teacher, encoded: Encoded, batch_tokens: int) -> None:
    """Set the last linear layer to a logistic regression on what reaches it, the encoder as it is.

    An output of which the rows teach nothing keeps its random weights.
    """
    classifier = _classifier(teacher)
    inputs = _inputs_of(classifier, teacher, encoded, batch_tokens)
    features, targets = (each.take(encoded.labelled).values for each in (inputs, encoded.targets))
    mean = features.mean(0)
    outputs, weights, bias = heads.of(teacher.kind).probe(features - mean, targets, PROBE_REGULARISATION)
    rows = torch.from_numpy(outputs)
    with torch.no_grad():
        classifier.weight[rows] = torch.from_numpy(weights).to(classifier.weight.dtype)
        classifier.bias[rows] = torch.from_numpy(bias - weights @ mean).to(classifier.bias.dtype)


def _classifier(teacher: Teacher) -> nn.Linear:
    layers = [module for module in teacher.model.modules() if isinstance(module, nn.Linear)]
    return next(layer for layer in reversed(layers) if layer.out_features == len(teacher.labels))


def _inputs_of(classifier: nn.Linear, teacher: Teacher, encoded: Encoded, batch_tokens: int) -> Units:
    """What reaches the classifier for every unit, [ΣU, H]."""
    caught: list[Tensor] = []
    hook = classifier.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))

    def answer(batch: Batch) -> Tensor:
        teacher.logits(batch)
        return heads.of(teacher.kind).from_transformers(caught.pop().double(), batch)

    try:
        return ask(teacher.model, answer, encoded, teacher.tokenizer.pad_token_id, batch_tokens)
    finally:
        hook.remove()
