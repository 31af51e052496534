"""A student as one ONNX graph that gives the answer of every exit, and that graph cut where texts may leave."""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import Any

import onnx
import torch
from onnx.utils import Extractor
from torch import Tensor, nn

from kd_core.inference.all_exits import exit_layers
from kd_core.models.architectures import takes_token_types
from kd_core.models.student import StudentModel
from kd_core.runtime.errors import ParamsError
from kd_core.serving.manifest import IDS, MASK, TYPES, hidden_name, probabilities_name
from kd_core.tasks.decode import probabilities

OPSET = 20
"""Version of ONNX's operators; set, so that a library's other default changes no file."""

_ROWS, _LENGTH = 3, 7
"""Shape of the example that the graph is traced with; both are dynamic."""


class _AllExits(nn.Module):
    """The student's forward pass with every exit's answer."""

    def __init__(self, model: StudentModel) -> None:
        super().__init__()
        self.model, self.exits = model, exit_layers(model)

    def forward(
        self, attention_mask: Tensor, input_ids: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Hidden states and probabilities behind each exit but the last, then the combined answer."""
        batch = {IDS: input_ids, MASK: attention_mask}
        if token_type_ids is not None:
            batch[TYPES] = token_type_ids
        states, found = self.model.hidden_states(batch), []
        for layer in self.exits[:-1]:
            logits = self.model.branch_logits(layer, states[layer], attention_mask)
            found += [states[layer], probabilities(logits.float(), self.model.config.kind)]
        return *found, self.model.answer(self.model.decode(states[-1], attention_mask))


def inputs_of(model: StudentModel, tokenizer: Any) -> list[str]:
    """What the graph takes, in the order of its forward; no token types where the tokenizer gives none."""
    types = takes_token_types(model.encoder.config) and TYPES in tokenizer.model_input_names
    return [MASK, IDS, *([TYPES] if types else [])]


def outputs_of(exits: Sequence[int]) -> list[str]:
    """What the graph of all exits gives."""
    names = [name for layer in exits[:-1] for name in (hidden_name(layer), probabilities_name(layer))]
    return [*names, probabilities_name(exits[-1])]


def trace(model: StudentModel, names: Sequence[str]) -> onnx.ModelProto:
    """The graph of all exits of a student in eval mode, batch and length dynamic; the same bytes on every machine.

    :param names: as `inputs_of` gives them
    :raises ParamsError: an encoder that PyTorch's exporter cannot put into ONNX, with the reason
    """
    attention = model.encoder.config._attn_implementation
    example = tuple(torch.ones(_ROWS, _LENGTH, dtype=torch.long) for _ in names)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length")}
    try:
        model.encoder.set_attn_implementation("eager")  # plain products and a softmax, fewer nodes than fused attention
        with redirect_stdout(io.StringIO()), torch.inference_mode():
            program = torch.onnx.export(
                _AllExits(model).eval(),
                example,
                input_names=list(names),
                output_names=outputs_of(exit_layers(model)),
                opset_version=OPSET,
                dynamic_shapes=tuple(axes for _ in names),
                dynamo=True,
                verbose=False,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        kind = model.encoder.config.model_type
        reason = str(error).strip().splitlines()[0]
        raise ParamsError(f"student: an encoder of kind {kind!r} cannot be exported to ONNX: {reason}") from error
    finally:
        model.encoder.set_attn_implementation(attention)
    if program is None:
        raise ParamsError("student: PyTorch's exporter gave no graph")
    return _shapes_from_mask(_without_origins(program.model_proto))


def cut(model: onnx.ModelProto, takes: Sequence[str], gives: Sequence[str]) -> onnx.ModelProto:
    """The part of a graph between named tensors, with its own weights only."""
    part: onnx.ModelProto = Extractor(model).extract_model(list(takes), list(gives))
    onnx.checker.check_model(part)
    return part


def _without_origins(model: onnx.ModelProto) -> onnx.ModelProto:
    """Without the source lines that each node came from: they name this machine's folders."""
    for each in (model, model.graph, *model.graph.node, *model.graph.initializer, *model.graph.value_info):
        each.ClearField("metadata_props")
        each.ClearField("doc_string")
    for each in (*model.graph.input, *model.graph.output):
        each.ClearField("metadata_props")
    return model


def _shapes_from_mask(model: onnx.ModelProto) -> onnx.ModelProto:
    """Batch and length read off the mask, which every segment has, where they were read off another input [B, L]."""
    for node in model.graph.node:
        if node.op_type == "Shape" and node.input[0] in (IDS, TYPES):
            node.input[0] = MASK
    return model
