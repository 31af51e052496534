"""The encoders that can be stepped: where an architecture keeps its layers, and what its forward does between two.

To add one, derive from Architecture what differs from BERT and name it in ARCHITECTURES. `step` must repeat what the
encoder's own forward does; `tests/kd_core/models/test_architectures.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import create_bidirectional_mask, create_bidirectional_sliding_window_mask

from kd_core.runtime.errors import ParamsError


class Architecture:
    """BERT, RoBERTa and ELECTRA; the others say what they do differently."""

    stack = "encoder.layer"
    """The list of layers inside the encoder."""
    attention = "attention.self"
    """The module inside a layer that attends …"""
    projections: Sequence[str] = ("query", "key", "value")
    """… and its linear maps."""
    positions_in_layers = False
    """Whether layers take part in where a token stands; otherwise only the embeddings tell."""

    def layers(self, encoder: nn.Module) -> Sequence[nn.Module]:
        """What is stepped through, in order; a layer with shared weights stands in the list as often as it is used."""
        return list(encoder.get_submodule(self.stack).children())

    def keep(self, encoder: nn.Module, indices: Sequence[int]) -> None:
        """Keep the layers at distinct `indices`, in that order, in place; the config follows."""
        layers = self.layers(encoder)
        encoder.set_submodule(self.stack, nn.ModuleList([layers[index] for index in indices]))
        config_of(encoder).num_hidden_layers = len(indices)

    def resize(self, config: Any, count: int) -> None:
        """Make `config`, whose widths are set, one of `count` fresh layers."""
        config.num_hidden_layers = count

    def embed(self, encoder: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """What enters the first layer, [B, L, H]."""
        hidden: Tensor = encoder.get_submodule("embeddings")(**self._embedding_inputs(encoder, batch))
        project = getattr(encoder, "embeddings_project", None)  # ELECTRA with embeddings narrower than its layers
        return hidden if project is None else project(hidden)

    def _embedding_inputs(self, encoder: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        names = ["input_ids", *(["token_type_ids"] if takes_token_types(config_of(encoder)) else [])]
        return {name: batch[name] for name in names if name in batch}

    def inputs(self, encoder: nn.Module, hidden: Tensor, attention_mask: Tensor) -> tuple[Any, ...]:
        """What `step` needs beside the hidden states."""
        return (create_bidirectional_mask(config_of(encoder), hidden, attention_mask),)

    def step(self, encoder: nn.Module, index: int, hidden: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        """[B, L, H] → [B, L, H] through layer `index` (0-based)."""
        output = self.layers(encoder)[index](hidden, *inputs)
        result: Tensor = output[0] if isinstance(output, tuple) else output
        return result

    def attention_of(self, layer: nn.Module) -> nn.Module:
        """The module that holds `projections`; of several, the last one to run."""
        return layer.get_submodule(self.attention)

    def query_key_value(
        self, attention: nn.Module, projected: Sequence[Tensor], arguments: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Q, K and V, each [B, L, H], from what `projections` gave in a forward pass called with `arguments`."""
        query, key, value = projected
        return query, key, value


class DistilBert(Architecture):
    """DistilBERT: other names."""

    stack = "transformer.layer"
    attention = "attention"
    projections = ("q_lin", "k_lin", "v_lin")


class MPNet(Architecture):
    """MPNet: every layer takes the same bias made from relative positions."""

    attention = "attention.attn"
    projections = ("q", "k", "v")
    positions_in_layers = True

    def inputs(self, encoder: nn.Module, hidden: Tensor, attention_mask: Tensor) -> tuple[Any, ...]:
        """The mask, and the bias [B, heads, L, L]."""
        stack: Any = encoder.get_submodule("encoder")
        return *super().inputs(encoder, hidden, attention_mask), stack.compute_position_bias(hidden)


class Albert(Architecture):
    """ALBERT: groups of weights, nearly always a single one, each repeated for an equal share of the layers.

    A layer is one pass through its group. Layers of one group do not differ, so that keeping some of them says how
    often the group is repeated.
    """

    stack = "encoder.albert_layer_groups"
    attention = "attention"

    def layers(self, encoder: nn.Module) -> Sequence[nn.Module]:
        """The group of each layer."""
        config, groups = config_of(encoder), super().layers(encoder)
        return [groups[group] for group in _spread(config.num_hidden_layers, len(groups))]

    def keep(self, encoder: nn.Module, indices: Sequence[int]) -> None:
        """Keep the groups of these layers. Raises ParamsError unless ALBERT would repeat these groups just so."""
        config, groups = config_of(encoder), super().layers(encoder)
        all_layers = _spread(config.num_hidden_layers, len(groups))
        wanted = [all_layers[index] for index in indices]
        kept = list(dict.fromkeys(wanted))
        possible = [kept[group] for group in _spread(len(indices), len(kept))]
        if wanted != possible:
            raise ParamsError(
                f"layers {list(indices)}: they use ALBERT's groups of shared weights {wanted}, but it can only repeat "
                f"them evenly and one after the other, as {possible}"
            )
        encoder.set_submodule(self.stack, nn.ModuleList([groups[group] for group in kept]))
        config.num_hidden_layers, config.num_hidden_groups = len(indices), len(kept)

    def resize(self, config: Any, count: int) -> None:
        """As many groups as the base has, and not more than layers."""
        super().resize(config, count)
        config.num_hidden_groups = min(config.num_hidden_groups, count)

    def embed(self, encoder: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Embeddings are narrower than the layers; the map between them belongs to what enters the first layer."""
        hidden: Tensor = encoder.get_submodule("encoder.embedding_hidden_mapping_in")(super().embed(encoder, batch))
        return hidden

    def attention_of(self, layer: nn.Module) -> nn.Module:
        """A group may hold several layers, one after the other."""
        return super().attention_of(list(layer.get_submodule("albert_layers").children())[-1])


class DebertaV2(Architecture):
    """DeBERTa-v2 and v3: disentangled attention over embeddings of relative positions that all layers share.

    Large v2 models have a convolution beside the first layer; it stays beside whichever layer is first.
    """

    projections = ("query_proj", "key_proj", "value_proj")
    positions_in_layers = True

    def _embedding_inputs(self, encoder: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return super()._embedding_inputs(encoder, batch) | {"mask": batch["attention_mask"]}

    def inputs(self, encoder: nn.Module, hidden: Tensor, attention_mask: Tensor) -> tuple[Any, ...]:
        """The mask as it is, as pairs of tokens, the relative positions and their embeddings."""
        stack: Any = encoder.get_submodule("encoder")
        pairs, positions = stack.get_attention_mask(attention_mask), stack.get_rel_pos(hidden)
        return attention_mask, pairs, positions, stack.get_rel_embedding()

    def step(self, encoder: nn.Module, index: int, hidden: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        """One layer, and beside the first the convolution, where there is one."""
        mask, pairs, positions, embeddings = inputs
        layer, convolution = self.layers(encoder)[index], getattr(encoder.get_submodule("encoder"), "conv", None)
        output: Tensor = layer(hidden, pairs, relative_pos=positions, rel_embeddings=embeddings)[0]
        return convolution(hidden, output, mask) if index == 0 and convolution is not None else output


class ModernBert(Architecture):
    """ModernBERT: rotary positions, layers that see everything or a window, one norm after the last layer.

    Hidden states between two layers are those before any norm, as in the encoder's own forward.
    """

    stack = "layers"
    attention = "attn"
    projections = ("Wqkv",)
    positions_in_layers = True

    def keep(self, encoder: nn.Module, indices: Sequence[int]) -> None:
        """Each layer keeps its kind. Raises ParamsError unless layer 0 is kept as the first."""
        if indices[0] != 0:
            raise ParamsError(
                f"layers {list(indices)}: ModernBERT's layer 0 is the only one without a norm before its attention, "
                "and the first layer must be without; start the list with 0"
            )
        super().keep(encoder, indices)
        config = config_of(encoder)
        config.layer_types = [config.layer_types[index] for index in indices]

    def resize(self, config: Any, count: int) -> None:
        """Kinds follow each other as in the base, from its first layer on. Raises ParamsError for odd heads."""
        if config.hidden_size // config.num_attention_heads % 2:
            raise ParamsError("student.heads: rotary positions need an even number of hidden units a head")
        kinds = config.layer_types
        super().resize(config, count)
        config.layer_types = [kinds[index % len(kinds)] for index in range(count)]

    def inputs(self, encoder: nn.Module, hidden: Tensor, attention_mask: Tensor) -> tuple[Any, ...]:
        """For each kind of layer its mask and its rotation."""
        config, rotary = config_of(encoder), encoder.get_submodule("rotary_emb")
        positions = torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
        return (
            {
                kind: (_MASKS[kind](config, hidden, attention_mask), rotary(hidden, positions, kind))
                for kind in sorted(set(config.layer_types))
            },
        )

    def step(self, encoder: nn.Module, index: int, hidden: Tensor, inputs: tuple[Any, ...]) -> Tensor:
        """One layer, and after the last the norm."""
        layers = self.layers(encoder)
        mask, rotation = inputs[0][str(layers[index].attention_type)]
        output: Tensor = layers[index](hidden, attention_mask=mask, position_embeddings=rotation)
        if index == len(layers) - 1:
            output = encoder.get_submodule("final_norm")(output)
        return output

    def query_key_value(
        self, attention: nn.Module, projected: Sequence[Tensor], arguments: Mapping[str, Any]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Out of the one fused projection; Q and K after their rotation, which is what attention compares."""
        from transformers.models.modernbert.modeling_modernbert import apply_rotary_pos_emb

        rows, length, _ = projected[0].shape
        parts = projected[0].view(rows, length, 3, -1, int(attention.head_dim)).unbind(2)  # type: ignore[arg-type]
        query, key = apply_rotary_pos_emb(*parts[:2], *arguments["position_embeddings"], unsqueeze_dim=2)
        return query.flatten(2), key.flatten(2), parts[2].flatten(2)


class Static(Architecture):
    """The static encoder: no layers, and what would enter the first is one state a text."""

    positions_in_layers = True  # the state stands at no token's place

    def layers(self, encoder: nn.Module) -> Sequence[nn.Module]:
        """None."""
        return []

    def embed(self, encoder: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """[B, 1, H]."""
        hidden: Tensor = encoder(batch["input_ids"], batch["attention_mask"])
        return hidden

    def inputs(self, encoder: nn.Module, hidden: Tensor, attention_mask: Tensor) -> tuple[Any, ...]:
        """Nothing."""
        return ()


_MASKS = {
    "full_attention": create_bidirectional_mask,
    "sliding_attention": create_bidirectional_sliding_window_mask,
}

ARCHITECTURES: Mapping[str, Architecture] = {
    "albert": Albert(),
    "bert": Architecture(),
    "camembert": Architecture(),
    "deberta-v2": DebertaV2(),
    "distilbert": DistilBert(),
    "electra": Architecture(),
    "modernbert": ModernBert(),
    "mpnet": MPNet(),
    "roberta": Architecture(),
    "xlm-roberta": Architecture(),
}
"""By `config.model_type`; DeBERTa-v3 calls itself deberta-v2."""

_OWN = {"kd_static": Static()}
"""Encoders of this project, which no base has."""


def architecture_of(config: Any) -> Architecture:
    """The architecture of a Hugging Face config. Raises ParamsError for one that cannot be stepped."""
    kind = str(config.model_type)
    if found := _OWN.get(kind) or ARCHITECTURES.get(kind):
        return found
    raise ParamsError(f"encoder {kind!r}: its layers cannot be stepped; one of {', '.join(ARCHITECTURES)} can")


def config_of(model: nn.Module) -> Any:
    """The Hugging Face config of a model."""
    return model.config


def takes_token_types(config: Any) -> bool:
    """Whether the first and the second text of a pair are embedded differently."""
    return int(getattr(config, "type_vocab_size", 0) or 0) > 1


def _spread(layers: int, groups: int) -> list[int]:
    """For each layer the group of weights that it uses, as ALBERT divides them."""
    return [int(index / (layers / groups)) for index in range(layers)]
