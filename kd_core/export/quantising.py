"""Eight-bit integers for the products with weights, where nearly all the time of a graph goes.

Each weight matrix has a scale for every output, each activation that enters one a scale from validation texts.
Everything else (the residual stream, attention's own products, norms, exits) stays in fp32, so that a text's answer
still depends on that text alone. Scales that are taken from each batch (onnxruntime's dynamic mode) would end that.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from kd_core.export.tracing import ENCODER
from kd_core.serving.exits.outcomes import Exits
from kd_core.serving.graphs.graphs import Feeds
from kd_core.tasks import decide

_PRODUCTS = ("MatMul", "Gemm")
_OPTIONS = {
    "MatMulConstBOnly": True,  # not attention's products of activations: they need the range more than the speed
    "OpTypesToExcludeOutputQuantization": list(_PRODUCTS),
    "WeightSymmetric": True,
}


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime's class is untyped
    """Batches for the calibrator, which asks for one after the other until it is given None."""

    def __init__(self, batches: Sequence[Feeds]) -> None:
        self._batches: Iterator[Feeds] = iter(batches)

    def get_next(self) -> Any:
        """The next batch."""
        return next(self._batches, None)


def quantised(graph: onnx.ModelProto, batches: Sequence[Feeds]) -> onnx.ModelProto:
    """The same graph, same inputs and outputs, with its weight products in int8; `graph` stays as it is.

    :param batches: texts for the ranges of activations
    """
    with tempfile.TemporaryDirectory() as folder, _without_advice():
        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(_apart(graph), source)
        quantize_static(
            source,
            target,
            _Feeds(batches),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_PRODUCTS),
            nodes_to_quantize=[node.name for node in _weight_products(graph)],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options=_OPTIONS,
        )
        return onnx.load(target)


def agreement(parent: Exits, quantised: Exits) -> float:
    """Share of texts on which the full model decides the same in both."""
    kind = decide.of(parent.kind)
    before, after = (kind.decisions(each.only(each.layers[-1])) for each in (parent, quantised))
    return float(np.mean(kind.same(before, after)))


def _weight_products(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The encoder's own; exits, which take one vector a text, stay in fp32."""
    weights = {each.name for each in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type in _PRODUCTS and node.input[1] in weights]
    # a product with bias is a Gemm and keeps its weight's name; one of tensors with three axes is a MatMul, of layers
    return [node for node in products if node.op_type == "MatMul" or node.input[1].startswith(ENCODER)]


def _apart(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which what enters weight products is a tensor of its own.

    The quantiser rounds a tensor for all that read it: without this the residual stream, too.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(graph)
    products = {node.name for node in _weight_products(graph)}
    nodes, made = [], set()
    for node in copy.graph.node:
        if node.name in products:
            source, own = node.input[0], f"{node.input[0]}_into_product"
            if own not in made:
                made.add(own)
                nodes.append(onnx.helper.make_node("Identity", [source], [own], name=own))
            node.input[0] = own
        nodes.append(node)
    del copy.graph.value_info[:]  # shapes of weights, which the quantiser may transpose; it infers them anew …
    floats = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(made)]
    copy.graph.value_info.extend(floats)  # … but not behind onnxruntime's own operators
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


@contextmanager
def _without_advice() -> Iterator[None]:
    """The quantiser advises, at the root logger, a preparation that the exporter has already done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
