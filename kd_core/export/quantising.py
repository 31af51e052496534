"""Quantises the products with weights, which take nearly all the time of a graph, to eight-bit integers.

Each weight matrix has one scale for each output; each activation that enters one has a scale from validation texts.
Everything else (the residual stream, attention's own products, norms, exits) stays in fp32. So a text's answer still
depends on that text alone; scales from each batch (onnxruntime's dynamic mode) would break this.
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
    "MatMulConstBOnly": True,  # leaves out attention's own products: they need the range more than the speed
    "OpTypesToExcludeOutputQuantization": list(_PRODUCTS),
    "WeightSymmetric": True,
}


class _Feeds(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime's class is untyped
    """Batches for the calibrator, which asks for batches until it gets None."""

    def __init__(self, batches: Sequence[Feeds]) -> None:
        self._batches: Iterator[Feeds] = iter(batches)

    def get_next(self) -> Any:
        """The next batch, or None at the end."""
        return next(self._batches, None)


def quantised(graph: onnx.ModelProto, batches: Sequence[Feeds]) -> onnx.ModelProto:
    """The graph with its weight products in int8 and the same inputs and outputs; `graph` is not changed.

    :param batches: texts that set the ranges of activations
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
    """Share of texts on which the full model makes the same decision in both."""
    kind = decide.of(parent.kind)
    before, after = (kind.decisions(each.only(each.layers[-1])) for each in (parent, quantised))
    return float(np.mean(kind.same(before, after)))


def _weight_products(graph: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The weight products of the encoder; those of exits, which take one vector for each text, stay in fp32."""
    weights = {each.name for each in graph.graph.initializer}
    products = [node for node in graph.graph.node if node.op_type in _PRODUCTS and node.input[1] in weights]
    # a Gemm is a product with bias and keeps its weight's name; a MatMul has three axes and belongs to a layer
    return [node for node in products if node.op_type == "MatMul" or node.input[1].startswith(ENCODER)]


def _apart(graph: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which each input of a weight product is a separate tensor.

    The quantiser rounds a tensor for all its readers: without this, the residual stream would be rounded too.
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
    del copy.graph.value_info[:]  # the quantiser may transpose weights, and infers all shapes again
    floats = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in sorted(made)]
    copy.graph.value_info.extend(floats)  # it cannot infer shapes after onnxruntime's own operators
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


@contextmanager
def _without_advice() -> Iterator[None]:
    """Silence the quantiser's advice, at the root logger, of a preparation that the exporter has already done."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
