"""AdamW as transformers are trained with it: no decay on biases and norms, linear warm-up, linear decay.

Tables of embeddings may have sparse gradients. AdamW then moves the rows of a step's texts alone: moving the whole of a
large table takes longer than all else that a static student computes in a step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from kd_core.config.training import Optimisation


class RowAdamW(AdamW):
    """AdamW; of a parameter with a sparse gradient, the rows that occur in it take a step, each by its own count.

    Moments of other rows wait, and so does their decay. With a count for all rows a rare row's first step would be
    several times as long as the learning rate says.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._move_rows(parameter, group)
                    parameter.grad = None
        return super().step(closure)

    def _move_rows(self, parameter: nn.Parameter, group: dict[str, Any]) -> None:
        gradient = parameter.grad.coalesce()  # type: ignore[union-attr]
        rows, values = gradient.indices()[0], gradient.values()
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(len(parameter), *[1] * (parameter.dim() - 1), device=parameter.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        first, second = group["betas"]
        steps = state["step"][rows] + 1
        mean = state["exp_avg"][rows].lerp_(values, 1 - first)
        square = state["exp_avg_sq"][rows].mul_(second).addcmul_(values, values, value=1 - second)
        scale = (square / (1 - second**steps)).sqrt_().add_(group["eps"])
        moved = parameter[rows].mul_(1 - group["lr"] * group["weight_decay"])
        parameter[rows] = moved.addcdiv_(mean / (1 - first**steps), scale, value=-group["lr"])
        state["step"][rows], state["exp_avg"][rows], state["exp_avg_sq"][rows] = steps, mean, square


def new_optimizer(model: nn.Module, optimisation: Optimisation) -> RowAdamW:
    """AdamW over the parameters that require gradients.

    Vectors (biases, LayerNorm) are not decayed. Fused: one pass over memory a step, which counts on CPU, where the
    update of a whole word embedding costs as much as a small student's backward pass.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": optimisation.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return RowAdamW([group for group in groups if group["params"]], lr=optimisation.learning_rate, fused=True)


def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Shorten all gradients together, sparse ones too, to a norm of at most `most`."""
    found: list[Tensor] = []
    for parameter in parameters:
        if parameter.grad is not None and parameter.grad.is_sparse:
            parameter.grad = parameter.grad.coalesce()
            found.append(parameter.grad.values())
        elif parameter.grad is not None:
            found.append(parameter.grad)
    factor = torch.clamp(most / (nn.utils.get_total_norm(found) + 1e-6), max=1.0)
    for gradient in found:
        gradient.mul_(factor)


def learning_rate_factor(done: float, warmup: float) -> float:
    """Share of the full learning rate when `done` ∈ [0, 1] of the training is over.

    It depends on the share and not on a count of steps, since epochs of shuffled token batches differ in length.
    """
    if done < warmup:
        return done / warmup
    return (1.0 - done) / (1.0 - warmup) if warmup < 1.0 else 1.0
