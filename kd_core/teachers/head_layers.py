"""Prepares the layers between a teacher's encoder and its classifier: a linear probe sees what the encoder gives.

Such a layer is random, or was trained for something else: behind the pooler of sentence-embedding weights, which no
classifier ever trained, texts hardly differ.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_RECTIFIED = 0.25
"""Share of zeros among a classifier's inputs from which a ReLU stands before it. A ReLU makes about half of them zero,
other activations none."""


def pass_features_on(model: PreTrainedModel) -> None:
    """Make the square layers between encoder and classifier (a pooler, a head's first layer) the identity."""
    for layer in _square_layers(model):
        nn.init.eye_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def pass_through_relu(model: PreTrainedModel, classifier: nn.Linear, ask: Callable[[], object]) -> bool:
    """Let the features through a ReLU between the head's last square layer and `classifier`, if there is one.

    Behind an identity a ReLU drops what is below 0 of each feature. The layer gives H/2 directions instead, each once
    as it is and once negated, relative to the mean text: their difference behind the ReLU is the direction again. They
    span the H/2 directions in which texts vary most.

    :param ask: lets the model answer the training texts
    :return: whether there is a ReLU
    """
    layers = _square_layers(model)
    if not layers or not _is_rectified(classifier, ask):
        return False
    layer = layers[-1]
    features = _inputs_of(layer, ask)
    mean = features.mean(0)
    directions = _leading_directions(features - mean)
    both = torch.cat([directions, -directions])
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[: len(both)] = both.to(layer.weight.dtype)
        layer.bias.zero_()
        layer.bias[: len(both)] = -(both @ mean).to(layer.bias.dtype)
    return True


def _square_layers(model: PreTrainedModel) -> list[nn.Linear]:
    """In the order in which features pass them."""
    body = f"{model.base_model_prefix}."
    return [
        layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear)
        and layer.in_features == layer.out_features
        and (not name.startswith(body) or ".pooler" in name)
    ]


def _is_rectified(classifier: nn.Linear, ask: Callable[[], object]) -> bool:
    return float((_inputs_of(classifier, ask) == 0).double().mean()) > _RECTIFIED


def _inputs_of(layer: nn.Linear, ask: Callable[[], object]) -> Tensor:
    """What reaches `layer` while the model answers, [N, H]."""
    caught: list[Tensor] = []
    hook = layer.register_forward_pre_hook(
        lambda _module, inputs: caught.append(inputs[0].detach().double().cpu().flatten(0, -2))
    )
    try:
        with torch.no_grad():
            ask()
    finally:
        hook.remove()
    return torch.cat(caught)


def _leading_directions(features: Tensor) -> Tensor:
    """An orthonormal basis [H/2, H] of the directions in which centred `features` [N, H] vary most.

    It is turned at random (always in the same way): each basis vector then varies about as much as any other, and
    dropout of one costs little.
    """
    half = features.shape[1] // 2
    leading = torch.linalg.eigh(features.T @ features).eigenvectors[:, -half:]
    turn = torch.linalg.qr(torch.randn(half, half, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    directions: Tensor = (leading @ turn).T
    return directions
