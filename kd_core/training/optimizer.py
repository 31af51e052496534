"""AdamW as transformers are trained with it: no decay on biases and norms, linear warm-up, linear decay."""

from __future__ import annotations

from torch import nn
from torch.optim import AdamW

from kd_core.config.training import Optimisation


def new_optimizer(model: nn.Module, optimisation: Optimisation) -> AdamW:
    """AdamW over the parameters that require gradients.

    Vectors (biases, LayerNorm) are not decayed. Fused: one pass over memory a step, which counts on CPU, where the
    update of a whole word embedding costs as much as a small student's backward pass.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": optimisation.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=optimisation.learning_rate, fused=True)


def learning_rate_factor(done: float, warmup: float) -> float:
    """Share of the full learning rate when `done` ∈ [0, 1] of the training is over.

    It depends on the share and not on a count of steps, since epochs of shuffled token batches differ in length.
    """
    if done < warmup:
        return done / warmup
    return (1.0 - done) / (1.0 - warmup) if warmup < 1.0 else 1.0
