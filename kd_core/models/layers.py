"""One view of encoders of several architectures: their embeddings, their layers, and one layer's step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from kd_core.config.lengths import check_positions
from kd_core.models.architectures import Architecture, architecture_of, config_of
from kd_core.runtime.errors import ParamsError

_POSITIONS = ("position_embeddings", "wpe", "embed_positions")
"""What tables of positions are called."""


def encoder_of(model: nn.Module) -> nn.Module:
    """The encoder of a model with a head over one; an encoder itself."""
    return getattr(model, "base_model", model)


def _architecture(encoder: nn.Module) -> Architecture:
    return architecture_of(config_of(encoder))


def encoder_layers(model: nn.Module) -> Sequence[nn.Module]:
    """The layers of an encoder, or of a model with a head over one. Raises ParamsError for another architecture."""
    encoder = encoder_of(model)
    return _architecture(encoder).layers(encoder)


def keep_layers(model: nn.Module, indices: Sequence[int]) -> None:
    """Keep only the layers at `indices` (0-based), in that order, in place; the config follows.

    Of ALBERT's shared layers that many repetitions are kept; a ModernBERT keeps its layer 0 as the first. Raises
    ParamsError for numbers that are not there or come twice, and for what the architecture cannot express.
    """
    encoder = encoder_of(model)
    count = len(encoder_layers(encoder))
    wrong = [index for index in indices if not 0 <= index < count]
    if wrong or not indices or len(set(indices)) != len(indices):
        raise ParamsError(f"layers {list(indices)}: give distinct numbers from 0 to {count - 1}")
    _architecture(encoder).keep(encoder, indices)


def embed(encoder: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """What enters the first layer, [B, L, H]; token_type_ids are left out where the encoder has no use for them."""
    return _architecture(encoder).embed(encoder, batch)


def attention_inputs(encoder: nn.Module, hidden: Tensor, attention_mask: Tensor) -> tuple[Any, ...]:
    """What the layers take beside the hidden states [B, L, H]: the mask in the form of the attention in use, …"""
    return _architecture(encoder).inputs(encoder, hidden, attention_mask)


def step(encoder: nn.Module, index: int, hidden: Tensor, inputs: tuple[Any, ...]) -> Tensor:
    """[B, L, H] → [B, L, H] through layer `index` (0-based); `inputs` from `attention_inputs`."""
    return _architecture(encoder).step(encoder, index, hidden, inputs)


def width(encoder: nn.Module) -> int:
    """Hidden units H."""
    return int(config_of(encoder).hidden_size)


def parameters_of(*modules: nn.Module) -> list[nn.Parameter]:
    """The parameters of several modules, in order."""
    return [parameter for module in modules for parameter in module.parameters()]


def most_tokens(model: nn.Module) -> int | None:
    """Tokens of a text, special ones included, that the model has positions for; None: no table of them limits it.

    RoBERTa and its kin count positions from behind that of padding, BART from behind two of its own.
    """
    tables = [
        part
        for name, part in model.named_modules()
        if isinstance(part, nn.Embedding) and name.rpartition(".")[2] in _POSITIONS
    ]
    return min((table.num_embeddings - _first_position(table) for table in tables), default=None)


def _first_position(table: nn.Embedding) -> int:
    behind_padding = 0 if table.padding_idx is None else table.padding_idx + 1
    return behind_padding + int(getattr(table, "offset", 0))


def check_length(model: nn.Module, max_length: int, where: str, remedy: str) -> None:
    """Raises ParamsError where texts of so many tokens are asked for and the model has fewer positions.

    :param where: what asks for it, e.g. `teachers.large`
    :param remedy: what to set
    """
    check_positions(most_tokens(model), max_length, where, remedy)
