"""Fine-tunes a teacher on the gold labels of its data set: first its new classifier alone, then everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from kd_core.config.data import MULTI_LABEL
from kd_core.config.training import Optimisation
from kd_core.runtime.progress import Progress
from kd_core.runtime.storage import Storage
from kd_core.tasks.decode import probabilities
from kd_core.tasks.encode import Encoded, encode
from kd_core.tasks.loss import hard_loss
from kd_core.teachers.model import Teacher
from kd_core.training.checkpoint import Curves
from kd_core.training.loop import Batch, train
from kd_core.training.texts import batches_of, outputs_of, validation_on

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

    from kd_core.tasks.decisions import Integers

    Floats = NDArray[np.float64]

PROBE_REGULARISATION = 10.0
"""Inverse strength of the probe's L2 penalty, on the features as they are.

Not on standardised ones: behind a saturated tanh features hardly move, and weights that make up for that would turn
the fine-tuning's dropout into a storm."""


def fine_tune(
    teacher: Teacher,
    rows: pd.DataFrame,
    valid: pd.DataFrame,
    optimisation: Optimisation,
    progress: Progress,
    state: Storage | None = None,
) -> Curves:
    """Cross-entropy on labelled `rows`, all weights, in place; the main metric on `valid` after each epoch.

    The classifier starts from a linear probe (Kumar et al. 2022, LP-FT): with few labels a random one would spend
    most of the epochs on finding its direction, and bend the encoder meanwhile.
    """
    encoded = encode(rows, teacher.tokenizer, teacher.task)
    pass_features_on(teacher.model)
    probe(teacher, encoded, optimisation.batch_tokens)
    batches = batches_of(encoded, teacher.tokenizer, optimisation.batch_tokens, {"targets": encoded.targets})

    def logits(batch: Batch) -> Tensor:
        return teacher.logits({name: tensor for name, tensor in batch.items() if name != "targets"})

    def loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": hard_loss(logits(batch), batch["targets"], teacher.kind)}

    def answer(batch: Batch) -> Tensor:
        return probabilities(logits(batch), teacher.kind)

    checked = encode(valid, teacher.tokenizer, teacher.task)
    validation = validation_on(
        teacher.model, answer, checked, teacher.tokenizer, optimisation.batch_tokens, teacher.kind
    )
    return train(teacher.model, loss, batches, optimisation, progress, state, validation)


def pass_features_on(model: PreTrainedModel) -> None:
    """Make the square layers between encoder and classifier (a pooler, a head's first layer) the identity.

    Such a layer is random, or was trained for something else: behind the pooler of sentence-embedding weights, which
    no classifier ever trained, texts hardly differ. With the identity the probe sees what the encoder gives.
    """
    body = f"{model.base_model_prefix}."
    for name, layer in model.named_modules():
        if not isinstance(layer, nn.Linear) or (name.startswith(body) and ".pooler" not in name):
            continue
        if layer.in_features == layer.out_features:
            nn.init.eye_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def probe(teacher: Teacher, encoded: Encoded, batch_tokens: int) -> None:
    """Set the last linear layer to a logistic regression on what reaches it, the encoder as it is.

    Multi-label: one regression a label; a label that all rows or none have keeps its random weights.
    """
    classifier = _classifier(teacher)
    features = _inputs_of(classifier, teacher, encoded, batch_tokens)
    labelled = encoded.labelled.numpy()
    features, targets = features[labelled], encoded.targets.numpy()[labelled]
    mean = features.mean(0)
    regress = _one_vs_rest if teacher.kind == MULTI_LABEL else _multinomial
    outputs, weights, bias = regress(features - mean, targets)
    rows = torch.from_numpy(outputs)
    with torch.no_grad():
        classifier.weight[rows] = torch.from_numpy(weights).to(classifier.weight.dtype)
        classifier.bias[rows] = torch.from_numpy(bias - weights @ mean).to(classifier.bias.dtype)


def _classifier(teacher: Teacher) -> nn.Linear:
    layers = [module for module in teacher.model.modules() if isinstance(module, nn.Linear)]
    return next(layer for layer in reversed(layers) if layer.out_features == len(teacher.labels))


def _inputs_of(classifier: nn.Linear, teacher: Teacher, encoded: Encoded, batch_tokens: int) -> Floats:
    """What reaches the classifier for every row, [N, H]."""
    caught: list[Tensor] = []
    hook = classifier.register_forward_pre_hook(lambda _module, inputs: caught.append(inputs[0]))

    def answer(batch: Batch) -> Tensor:
        teacher.logits(batch)
        return caught.pop().float()

    try:
        return outputs_of(teacher.model, answer, encoded, teacher.tokenizer, batch_tokens).double().numpy()
    finally:
        hook.remove()


def _multinomial(features: Floats, targets: Integers) -> tuple[Integers, Floats, Floats]:
    """The classes that occur, and for each of them weights and bias."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=PROBE_REGULARISATION, max_iter=500).fit(features, targets)
    return model.classes_, *_as_softmax(model)


def _one_vs_rest(features: Floats, targets: Integers) -> tuple[Integers, Floats, Floats]:
    """The labels that some rows have and some have not, and for each of them weights and bias."""
    from sklearn.linear_model import LogisticRegression

    learnt = np.flatnonzero((targets == 0).any(0) & (targets == 1).any(0))
    models = [LogisticRegression(C=PROBE_REGULARISATION, max_iter=500).fit(features, targets[:, i]) for i in learnt]
    weights = np.concatenate([np.zeros((0, features.shape[1])), *(model.coef_ for model in models)])
    return learnt, weights, np.array([model.intercept_[0] for model in models])


def _as_softmax(model: Any) -> tuple[Floats, Floats]:
    """Coefficients with one row a class; scikit-learn keeps a single row for two classes."""
    if len(model.classes_) > 2:
        return model.coef_, model.intercept_
    return np.concatenate([-model.coef_, model.coef_]) / 2, np.concatenate([-model.intercept_, model.intercept_]) / 2
