"""Self-attention distillation: the last layer's query–key and value relations of a live teacher.

docs/methods.md §2, after CN114298287A and MiniLM; relation heads after MiniLMv2. Relations are rebuilt from the hooked
query, key and value projections of that one layer, so that every layer keeps its fused attention where it has one. For
BERT, RoBERTa, ELECTRA, DistilBERT and ALBERT, with heads that are not regrouped, the query–key relation is exactly the
attention. Where attention is more than QKᵀ, plain QKᵀ relations stand in (chosen): the added terms of MPNet's relative
bias and of DeBERTa's positions are left out, ModernBERT's queries and keys are taken after their rotation, but its
windows are not looked through, since a key that only one side sees would be infinitely far away.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from kd_core.config.rules import common_heads
from kd_core.config.training import AttentionDistillation
from kd_core.models.architectures import architecture_of
from kd_core.models.layers import encoder_layers, encoder_of
from kd_core.runtime.errors import ParamsError

Pair = tuple[Tensor, Tensor]
"""Two projections [B, L, H] that a relation compares: queries and keys, or values twice."""

MAP_ELEMENTS = 2**19
"""Elements of a map [B, R, L, L] that are computed at a time, 2 MiB; several such maps are alive together."""


class AttentionDistiller:
    """L_AT and L_VR between the last batch that a teacher and a student saw; hooks exist while it is entered."""

    def __init__(self, teacher: nn.Module, student: nn.Module, params: AttentionDistillation) -> None:
        """`teacher` and `student`: encoders, or models with a head over one.

        Raises ParamsError if heads do not fit, or one of the two has no layers.
        """
        for name, model in (("live teacher", teacher), ("student", student)):
            if not encoder_layers(model):
                raise ParamsError(
                    f"pretrain.live_teacher: the {name} has no layers, so it has no attention; set it to none"
                )
        self._heads = common_heads(params, _shape(teacher), _shape(student))
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
        query, key, value = self._student.take()
        their_query, their_key, their_value = self._teacher.take()
        attention = relation_divergence((their_query, their_key), (query, key), attention_mask, self._heads)
        del their_query, their_key  # the student's activations are all there: memory is at its peak
        return attention, relation_divergence((their_value,) * 2, (value,) * 2, attention_mask, self._heads)


def relation(one: Tensor, other: Tensor, attention_mask: Tensor, heads: int) -> Tensor:
    """log softmax(X Yᵀ / √d + mask) [B, R, L, L] of projections [B, L, H] regrouped into R heads of width d = H / R."""
    queries, keys = _split(one, heads), _split(other, heads)
    products = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1])
    padded = attention_mask[:, None, None, :] == 0
    return products.masked_fill_(padded, -torch.inf).log_softmax(-1)


def relation_divergence(teacher: Pair, student: Pair, attention_mask: Tensor, heads: int) -> Tensor:
    """KL(teacher ‖ student) of the two sides' relations in fp32, the mean over `heads` and unpadded query positions.

    Gradients reach the student's pair only. The maps [R, L, L] of a few texts exist at a time, and none is kept for the
    backward pass.
    """
    with torch.autocast(student[0].device.type, enabled=False):
        divergence: Tensor = _Divergence.apply(*student, *teacher, attention_mask, heads)  # type: ignore[no-untyped-call]
    return divergence


class _Divergence(torch.autograd.Function):
    """Finds the gradient together with the loss, while a text's maps are there: dKL / dlogits = p_student − p_teacher.

    Left to itself, autograd keeps several maps of every text, which can be more than all else that a small student
    needs.
    """

    @staticmethod
    def forward(
        ctx: Any, one: Tensor, other: Tensor, their_one: Tensor, their_other: Tensor, attention_mask: Tensor, heads: int
    ) -> Tensor:
        total = torch.zeros((), device=one.device)
        gradients = torch.empty_like(one), torch.empty_like(other)
        share = attention_mask / (attention_mask.sum() * heads)  # of a query of one head in the mean
        texts = max(1, MAP_ELEMENTS // (heads * one.shape[1] ** 2))
        for part in (slice(start, start + texts) for start in range(0, len(one), texts)):
            mask = attention_mask[part]
            wanted = relation(their_one[part], their_other[part], mask, heads)
            found = relation(one[part], other[part], mask, heads)
            # A padded key has no probability on either side; its difference of infinities must not become NaN.
            difference = (wanted - found).masked_fill_(mask[:, None, None, :] == 0, 0.0)
            weight = share[part, None, :, None]
            total += difference.mul_(wanted.exp_()).mul_(weight).sum()
            slope = found.exp_().sub_(wanted).mul_(weight * math.sqrt(heads / one.shape[-1]))
            gradients[0][part] = _join(slope @ _split(other[part], heads))
            gradients[1][part] = _join(slope.mT @ _split(one[part], heads))
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        one, other = ctx.saved_tensors
        return one * upstream, other * upstream, None, None, None, None


def _split(projection: Tensor, heads: int) -> Tensor:
    """[B, L, H] → [B, R, L, H / R]."""
    rows, length, width = projection.shape
    return projection.float().view(rows, length, heads, width // heads).transpose(1, 2)


def _join(heads: Tensor) -> Tensor:
    """[B, R, L, H / R] → [B, L, H]."""
    return heads.transpose(1, 2).flatten(2)


def _shape(model: nn.Module) -> tuple[int, int]:
    config: Any = model.config
    return int(config.hidden_size), int(config.num_attention_heads)


class _Capture:
    """Keeps what the query, key and value projections of a model's last layer gave in its latest forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self._architecture = architecture_of(encoder_of(model).config)
        self._attention = self._architecture.attention_of(encoder_layers(model)[-1])
        self._projected: dict[str, Tensor] = {}
        self._arguments: Mapping[str, Any] = {}
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def hook(self) -> None:
        self._hooks.append(self._attention.register_forward_pre_hook(self._begin, with_kwargs=True))
        for name in self._architecture.projections:
            projection = self._attention.get_submodule(name)
            self._hooks.append(projection.register_forward_hook(self._keep(name)))

    def unhook(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._forget()

    def take(self) -> tuple[Tensor, Tensor, Tensor]:
        projected = [self._projected[name] for name in self._architecture.projections]
        found = self._architecture.query_key_value(self._attention, projected, self._arguments)
        self._forget()
        return found

    def _forget(self) -> None:
        self._projected, self._arguments = {}, {}

    def _begin(self, module: nn.Module, inputs: tuple[Any, ...], arguments: dict[str, Any]) -> None:
        self._projected, self._arguments = {}, arguments  # ALBERT passes through the same layer again and again

    def _keep(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            self._projected.setdefault(name, output)  # DeBERTa may project its relative positions after the tokens

        return hook
