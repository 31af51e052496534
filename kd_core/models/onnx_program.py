"""A module as an ONNX program, by PyTorch's exporter."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from kd_core.runtime.errors import ParamsError

OPSET = 20
"""Version of ONNX's operators; set, so that a library's other default changes no file."""

Axes = Mapping[int, torch.export.Dim]
"""Place of a dimension → its name; the others have the example's size."""


def onnx_program(
    name: str, module: nn.Module, example: Mapping[str, Tensor], axes: Mapping[str, Axes], outputs: Sequence[str]
) -> torch.onnx.ONNXProgram:
    """`module`, in eval mode, whose forward takes one mapping like `example`.

    :param name: of the model, for errors
    :param axes: for each input the dimensions whose size is left open
    :raises ParamsError: PyTorch's exporter cannot put the module into ONNX, with the reason
    """
    options: dict[str, Any] = {"opset_version": OPSET, "dynamo": True, "verbose": False}
    try:
        with redirect_stdout(io.StringIO()), torch.inference_mode():
            program = torch.onnx.export(
                module.eval(),
                kwargs={"batch": dict(example)},
                input_names=list(example),
                output_names=list(outputs),
                dynamic_shapes={"batch": {each: dict(axes[each]) for each in example}},
                **options,
            )
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ParamsError(f"{name} cannot be exported to ONNX: {reason}") from error
    if program is None:
        raise ParamsError(f"{name} cannot be exported to ONNX: PyTorch's exporter gave no graph")
    return program
