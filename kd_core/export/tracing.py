"""Traces a student as one ONNX graph that gives the answer of every exit, and cuts it where texts may leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx.utils import Extractor
from onnxscript.optimizer import remove_unused_nodes
from torch import Tensor, nn

from kd_core.export.packing import ATTENTION, Layout
from kd_core.inference.all_exits import exit_layers
from kd_core.models import layers
from kd_core.models.architectures import architecture_of, takes_token_types
from kd_core.models.onnx_program import onnx_program
from kd_core.models.student import StudentModel
from kd_core.serving.folder.network import IDS, MASK, PADDED, PLACES, TYPES, hidden_name, probabilities_name
from kd_core.serving.graphs.tokens import mask, places
from kd_core.tasks import encode, heads
from kd_core.tasks.units import UNIT_MASK

ENCODER = "model.encoder."
"""Prefix of the names of the encoder's weights."""

_LENGTHS = (7, 4, 2)
"""Lengths of the example's texts for tracing; their number and the longest length are dynamic."""
_UNITS = (5, 3, 1)
"""Units of the same texts, if parts of a text are asked about; the most units of a batch are dynamic too."""


class _AllExits(nn.Module):
    """The student's forward pass with every exit's answer."""

    def __init__(self, model: StudentModel) -> None:
        super().__init__()
        self.model, self.exits = model, exit_layers(model)

    def forward(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Hidden states and probabilities [B · U, C] after each exit but the last, then the combined answer."""
        states, kind, found = self._states(batch), heads.of(self.model.config.kind), list[Tensor]()
        for layer in self.exits[:-1]:
            answer = kind.probabilities(self.model.branch_logits(layer, states[layer], batch))
            found += [states[layer], answer.flatten(0, 1)]
        return *found, self.model.answer(self.model.decode(states[-1], batch)).flatten(0, 1)

    def _states(self, batch: Mapping[str, Tensor]) -> Sequence[Tensor]:
        """Embeddings and the output of each layer, [B, L, H]; layers between two exits compute no padding."""
        if PLACES not in batch:
            return self.model.hidden_states(batch)
        layout = Layout(batch[MASK], batch[PLACES], batch[PADDED])
        states = [self.model.embed(batch)]
        tokens = layout.pack(states[0])
        for index in range(self.model.layer_count):
            tokens = layers.step(self.model.encoder, index, tokens, (layout,))
            states.append(layout.unpack(tokens))
            if index + 1 in self.exits:  # the graph is cut here
                tokens = layout.pack(states[-1])
        return states


def inputs_of(model: StudentModel, tokenizer: Any) -> list[str]:
    """The inputs of the graph, in order; without token types if the tokenizer gives none."""
    types = takes_token_types(model.encoder.config) and TYPES in tokenizer.model_input_names
    packs = not architecture_of(model.encoder.config).positions_in_layers
    features = encode.of(model.config.kind).FEATURES
    units = [UNIT_MASK, *features] if features else []
    return [MASK, IDS, *([TYPES] if types else []), *([PLACES, PADDED] if packs else []), *units]


def outputs_of(exits: Sequence[int]) -> list[str]:
    """The outputs of the graph of all exits."""
    names = [name for layer in exits[:-1] for name in (hidden_name(layer), probabilities_name(layer))]
    return [*names, probabilities_name(exits[-1])]


def trace(model: StudentModel, names: Sequence[str]) -> onnx.ModelProto:
    """The graph of all exits of a student in eval mode, with dynamic batch and length; equal bytes on every machine.

    :param names: the result of `inputs_of`
    :raises ParamsError: PyTorch's exporter cannot put the encoder into ONNX; the message gives the reason
    """
    attention = model.encoder.config._attn_implementation
    batch = torch.export.Dim("batch")
    by_token, by_unit = ({0: batch, 1: torch.export.Dim(name)} for name in ("length", "units"))
    known = {PLACES: {0: torch.export.Dim("tokens")}, **dict.fromkeys((MASK, IDS, TYPES, PADDED), by_token)}
    axes = {name: known.get(name, by_unit) for name in names}
    try:
        # without packing, plain products and a softmax need fewer nodes than fused attention
        model.encoder.set_attn_implementation(ATTENTION if PLACES in names else "eager")
        kind = f"student: an encoder of kind {model.encoder.config.model_type!r}"
        program = onnx_program(kind, _AllExits(model), _example(names), axes, outputs_of(exit_layers(model)))
    finally:
        model.encoder.set_attn_implementation(attention)
    return _shapes_from_mask(_without_detours(_without_origins(program.model_proto)))


def _example(names: Sequence[str]) -> dict[str, Tensor]:
    used, units = mask(np.array(_LENGTHS), max(_LENGTHS)), mask(np.array(_UNITS), max(_UNITS))
    found = {name: np.ones_like(used) for name in (IDS, TYPES)} | {MASK: used, UNIT_MASK: units.astype(bool)}
    found |= places(used)
    return {name: torch.from_numpy(found.get(name, np.zeros_like(units))) for name in names}


def cut(model: onnx.ModelProto, takes: Sequence[str], gives: Sequence[str]) -> onnx.ModelProto:
    """The part of a graph between named tensors, with only its own weights."""
    part: onnx.ModelProto = Extractor(model).extract_model(list(takes), list(gives))
    onnx.checker.check_model(part)
    return part


def _without_origins(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the source lines of the nodes: they name this machine's folders."""
    for each in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")
    for each in (*model.graph.input, *model.graph.output):
        each.ClearField("metadata_props")
    return model


def _without_detours(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove reshapes that cancel out: layers split tokens into heads, and the attention operator wants them whole."""
    made = {name: node for node in model.graph.node for name in node.output}
    shapes = {
        each.name: [place.dim_param or place.dim_value for place in each.type.tensor_type.shape.dim]
        for each in model.graph.value_info
    }
    same: dict[str, str] = {}
    for node in model.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type == "Reshape" and node.input[0] in made and made[node.input[0]].op_type == "Reshape":
            node.input[0] = made[node.input[0]].input[0]
            if shapes.get(node.input[0], 0) == shapes.get(node.output[0], 1):
                same[node.output[0]] = node.input[0]
    remove_unused_nodes(model)
    return model


def _shapes_from_mask(model: onnx.ModelProto) -> onnx.ModelProto:
    """Read batch and length from the mask, which every segment has, instead of another input [B, L]."""
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in (IDS, TYPES):
            node.input[0] = MASK
    return model
