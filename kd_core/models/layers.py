"""One view of encoders of several architectures: their embeddings, their layers, and one layer's step.

To add an architecture, add its Layout; `step` must repeat what the encoder's own forward does between two layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from kd_core.runtime.errors import ParamsError


@dataclass(frozen=True)
class Layout:
    """Where an architecture keeps its parts."""

    stack: str = "encoder"
    """Attribute of the encoder that holds `layer`, the list of layers."""
    token_types: bool = True
    """Whether the embeddings take token_type_ids."""
    position_bias: bool = False
    """Whether a layer takes a bias made from relative positions (MPNet)."""


LAYOUTS: Mapping[str, Layout] = {
    "bert": Layout(),
    "camembert": Layout(),
    "distilbert": Layout(stack="transformer", token_types=False),
    "electra": Layout(),
    "mpnet": Layout(token_types=False, position_bias=True),
    "roberta": Layout(),
    "xlm-roberta": Layout(),
}
"""By `config.model_type`."""


def config_of(model: nn.Module) -> Any:
    """The Hugging Face config of a model."""
    return model.config


def _layout(encoder: nn.Module) -> Layout:
    kind = str(config_of(encoder).model_type)
    if kind not in LAYOUTS:
        raise ParamsError(f"encoder {kind!r}: its layers cannot be stepped; one of {', '.join(LAYOUTS)} can")
    return LAYOUTS[kind]


def _encoder(model: nn.Module) -> nn.Module:
    return getattr(model, "base_model", model)


def _stack(model: nn.Module) -> Any:
    encoder = _encoder(model)
    return encoder.get_submodule(_layout(encoder).stack)


def encoder_layers(model: nn.Module) -> nn.ModuleList:
    """The layers of an encoder, or of a model with a head over one. Raises ParamsError for another architecture."""
    layers: nn.ModuleList = _stack(model).layer
    return layers


def keep_layers(model: nn.Module, indices: Sequence[int]) -> None:
    """Keep only the layers at `indices` (0-based), in that order, in place; the config follows."""
    layers = encoder_layers(model)
    wrong = [index for index in indices if not 0 <= index < len(layers)]
    if wrong or not indices or len(set(indices)) != len(indices):
        raise ParamsError(f"layers {list(indices)}: give distinct numbers from 0 to {len(layers) - 1}")
    _stack(model).layer = nn.ModuleList([layers[index] for index in indices])
    for part in (model, _encoder(model)):
        config_of(part).num_hidden_layers = len(indices)


def embed(encoder: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
    """What enters the first layer, [B, L, H]."""
    inputs: dict[str, Tensor] = {"input_ids": batch["input_ids"]}
    if _layout(encoder).token_types and "token_type_ids" in batch:
        inputs["token_type_ids"] = batch["token_type_ids"]
    hidden: Tensor = encoder.get_submodule("embeddings")(**inputs)
    project = getattr(encoder, "embeddings_project", None)  # ELECTRA with embeddings narrower than its layers
    return hidden if project is None else project(hidden)


def attention_inputs(encoder: nn.Module, hidden: Tensor, attention_mask: Tensor) -> tuple[Any, ...]:
    """What every layer takes beside the hidden states: the attention mask in the form of the attention in use, …"""
    from transformers.masking_utils import create_bidirectional_mask

    mask = create_bidirectional_mask(config=config_of(encoder), inputs_embeds=hidden, attention_mask=attention_mask)
    if _layout(encoder).position_bias:
        return mask, _stack(encoder).compute_position_bias(hidden)
    return (mask,)


def step(encoder: nn.Module, index: int, hidden: Tensor, inputs: tuple[Any, ...]) -> Tensor:
    """[B, L, H] → [B, L, H] through layer `index` (0-based); `inputs` from `attention_inputs`."""
    output = encoder_layers(encoder)[index](hidden, *inputs)
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def width(encoder: nn.Module) -> int:
    """Hidden units H."""
    return int(config_of(encoder).hidden_size)


def parameters_of(*modules: nn.Module) -> list[nn.Parameter]:
    """The parameters of several modules, in order."""
    return [parameter for module in modules for parameter in module.parameters()]
