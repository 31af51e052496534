"""Self-attention distillation: the last layer's query–key and value relations of a live teacher.

docs/methods.md §2, after CN114298287A and MiniLM; relation heads after MiniLMv2. Relations are rebuilt from the hooked
query, key and value projections of that one layer, so that every layer keeps its fused attention. For encoders with
absolute positions (BERT, RoBERTa, ELECTRA, DistilBERT) and heads that are not regrouped, the query–key relation is
exactly the attention. Where attention is more than QKᵀ (MPNet's relative bias) the added terms are left out.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from kd_core.config.training import AttentionDistillation
from kd_core.models.layers import encoder_layers
from kd_core.runtime.errors import ParamsError

_PROJECTIONS = ({"query", "q_lin", "q"}, {"key", "k_lin", "k"}, {"value", "v_lin", "v"})


class AttentionDistiller:
    """L_AT and L_VR between the last batch that a teacher and a student saw; hooks exist while it is entered."""

    def __init__(self, teacher: nn.Module, student: nn.Module, params: AttentionDistillation) -> None:
        """`teacher` and `student`: encoders, or models with a head over one. Raises ParamsError if heads do not fit."""
        self._heads = params.common_heads(_shape(teacher), _shape(student))
        self._teacher, self._student = _Capture(teacher), _Capture(student)

    def __enter__(self) -> AttentionDistiller:
        self._teacher.hook()
        self._student.hook()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._teacher.unhook()
        self._student.unhook()

    def losses(self, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """(L_AT, L_VR) of the batch, mask [B, L], that both models have just been through."""
        teacher, student = self._teacher.take(), self._student.take()
        attention, value = (
            relation_divergence(
                relation(teacher[one].detach(), teacher[other].detach(), attention_mask, self._heads),
                relation(student[one], student[other], attention_mask, self._heads),
                attention_mask,
            )
            for one, other in ((0, 1), (2, 2))
        )
        return attention, value


def relation(one: Tensor, other: Tensor, attention_mask: Tensor, heads: int) -> Tensor:
    """log softmax(X Yᵀ / √d + mask) [B, R, L, L] of projections [B, L, H] regrouped into R heads of width d = H / R."""
    queries, keys = _split(one, heads), _split(other, heads)
    with torch.autocast(one.device.type, enabled=False):
        products = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
    padded = attention_mask[:, None, None, :] == 0
    return products.masked_fill(padded, -torch.inf).log_softmax(-1)


def relation_divergence(teacher: Tensor, student: Tensor, attention_mask: Tensor) -> Tensor:
    """KL(teacher ‖ student) of log relations [B, R, L, L], the mean over heads and unpadded query positions."""
    padded = attention_mask[:, None, None, :] == 0
    # A padded key has no probability on either side; its difference of infinities must not become NaN.
    difference = (teacher - student).masked_fill(padded, 0.0)
    rows = (teacher.exp() * difference).sum(-1)
    unpadded = attention_mask[:, None, :].to(rows.dtype)
    return (rows * unpadded).sum() / (unpadded.sum() * rows.shape[1])


def _split(projection: Tensor, heads: int) -> Tensor:
    rows, length, width = projection.shape
    return projection.float().view(rows, length, heads, width // heads).transpose(1, 2)


def _shape(model: nn.Module) -> tuple[int, int]:
    config: Any = model.config
    return int(config.hidden_size), int(config.num_attention_heads)


class _Capture:
    """Keeps what the query, key and value projections of a model's last layer gave in its latest forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self._projections = [_projection(encoder_layers(model)[-1], names) for names in _PROJECTIONS]
        self._outputs: dict[int, Tensor] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def hook(self) -> None:
        for index, projection in enumerate(self._projections):
            self._hooks.append(projection.register_forward_hook(self._keep(index)))

    def unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._outputs.clear()

    def take(self) -> tuple[Tensor, Tensor, Tensor]:
        return self._outputs.pop(0), self._outputs.pop(1), self._outputs.pop(2)

    def _keep(self, index: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self._outputs[index] = output

        return hook


def _projection(layer: nn.Module, names: set[str]) -> nn.Module:
    found: list[nn.Module] = [module for name, module in layer.named_modules() if name.rpartition(".")[2] in names]
    if len(found) != 1:
        wanted = " / ".join(sorted(names))
        raise ParamsError(f"pretrain.live_teacher: {type(layer).__name__} has no projection {wanted} to learn from")
    return found[0]
