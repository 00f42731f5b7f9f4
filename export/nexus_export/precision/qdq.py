"""Write explicit INT8 into a graph: QuantizeLinear and DequantizeLinear (QDQ) around its layers.

Weights are INT8, symmetric, one scale an output channel; activations UINT8 with one scale and zero point a tensor
(Jacob et al. 2017, arXiv:1712.05877; Krishnamoorthi 2018, arXiv:1806.08342). Biases stay FP32; onnxruntime and
TensorRT make INT32 of them themselves. The reasons for the activations' type, and for not using
onnxruntime.quantization, are in benchmarks/results/int8_quantizers.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from nexus_export.exported import Array
from nexus_export.precision.calibration import Ranges

# Layers that engines multiply in INT8. Not ConvTranspose: onnxruntime has none, and dequantises at every run.
LAYERS = frozenset({"Conv", "MatMul", "Gemm"})
# An activation that engines fold into the layer before it.
_ACTIVATIONS = frozenset({"Relu", "Clip"})
# The largest magnitude of a weight. x86-64 processors without VNNI add the products of two UINT8 activations and two
# INT8 weights in 16 bits, and saturate: with 7 bits 2 * 255 * 63 = 32,130 fits, so that every processor and every build
# of onnxruntime adds exactly (its `reduce_range`). What that costs and saves: benchmarks/results/int8_processors.md.
CPU_WEIGHT_MAX = 63
GPU_WEIGHT_MAX = 127
_LEAST_SCALE = 2.0**-24  # FP16 holds none but 0 below, and scales may be stored in it


@dataclass(frozen=True)
class Layer:
    """A node with constant FP32 weights. `output` is where its result is quantised, behind its activation if it
    has one, or empty: products of matrices feed normalisations and softmaxes and stay wide.
    """

    weights: str
    input: str
    output: str
    axis: int  # of the weights' output channels


def layers(model: onnx.ModelProto) -> list[Layer]:
    """The layers of a folded graph that INT8 could take, in graph order."""
    weights = {t.name: t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT}
    readers: dict[str, list[NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = []
    for node in model.graph.node:
        if node.op_type not in LAYERS or node.input[1] not in weights or len(readers[node.input[1]]) > 1:
            continue
        output = ""
        if node.op_type == "Conv":
            output = node.output[0]
            followers = readers.get(output, [])
            if len(followers) == 1 and followers[0].op_type in _ACTIVATIONS:
                output = followers[0].output[0]
        found.append(Layer(node.input[1], node.input[0], output, _channel_axis(node)))
    # The output of a network is not rounded to 256 steps: of SAM's embedding that costs two masks of a hundred.
    return [*found[:-1], *(replace(layer, output="") for layer in found[-1:])]


def activations(chosen: Sequence[Layer]) -> list[str]:
    """The tensors that the layers' INT8 needs ranges of, each once."""
    names = [name for layer in chosen for name in (layer.input, layer.output)]
    return list(dict.fromkeys(filter(None, names)))


def insert(
    model: onnx.ModelProto, ranges: Ranges, chosen: Sequence[Layer], weight_max: int
) -> onnx.ModelProto:
    """Return a copy of a folded graph whose `chosen` layers are INT8, weights within `weight_max` of 0.

    The INT8 weights keep the name that the FP32 ones had. An output of the graph stays as it was.
    """
    by_weights = {layer.weights: layer for layer in chosen}
    outputs = {output.name for output in model.graph.output}
    pairs = {name: f"int8_{index}" for index, name in enumerate(activations(chosen)) if name not in outputs}
    arrays: dict[str, Array] = {}
    nodes: list[NodeProto] = []

    def quantise(name: str) -> None:
        scale, zero = _parameters(*ranges[name])
        zero_name = f"zero_{zero}"
        arrays[f"{pairs[name]}_scale"] = scale
        arrays[zero_name] = zero
        constants = [f"{pairs[name]}_scale", zero_name]
        nodes.append(helper.make_node("QuantizeLinear", [name, *constants], [f"{pairs[name]}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{pairs[name]}_q", *constants], [pairs[name]]))

    for entry in model.graph.input:
        if entry.name in pairs:
            quantise(entry.name)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        changed = NodeProto()
        changed.CopyFrom(node)
        changed.input[:] = [pairs.get(name, name) for name in node.input]
        layer = by_weights.get(node.input[1]) if len(node.input) > 1 else None
        if layer is not None:
            values, scales = quantised_weights(
                numpy_helper.to_array(weights[layer.weights]), layer.axis, weight_max
            )
            # Weights beyond CPU_WEIGHT_MAX have a zero point a layer: where `inference.EXACT_INT8` turns them into
            # UINT8, onnxruntime names the new zero point after the old one, and fails if two layers share one.
            is_converted = weight_max > CPU_WEIGHT_MAX
            zero = f"{layer.weights}_zero" if is_converted else f"zeros_{scales.size}"
            constants = [f"{layer.weights}_scale", zero]
            arrays.update(
                {layer.weights: values, constants[0]: scales, constants[1]: np.zeros(scales.size, np.int8)}
            )
            changed.input[1] = f"{layer.weights}_fp32"
            nodes.append(
                helper.make_node(
                    "DequantizeLinear", [layer.weights, *constants], [changed.input[1]], axis=layer.axis
                )
            )
        nodes.append(changed)
        for name in node.output:
            if name in pairs:
                quantise(name)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in arrays]
    kept += [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, kept)
    changed = helper.make_model(
        graph,
        opset_imports=model.opset_import,
        ir_version=model.ir_version,
        functions=model.functions,
        producer_name=model.producer_name,
    )
    changed.metadata_props.extend(model.metadata_props)
    return changed


def quantised_weights(
    weights: Array, axis: int, weight_max: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """INT8 values in [-weight_max, weight_max] and FP32 scales, one a channel of `axis`."""
    others = tuple(other for other in range(weights.ndim) if other != axis)
    scales = np.maximum(np.abs(weights).max(axis=others) / weight_max, _LEAST_SCALE).astype(np.float32)
    values = np.rint(weights / np.expand_dims(scales, others))
    return values.clip(-weight_max, weight_max).astype(np.int8), scales


def _parameters(least: float, largest: float) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    scale = max((largest - least) / 255, _LEAST_SCALE)
    return np.array(scale, np.float32), np.array(round(-least / scale), np.uint8)


def _channel_axis(node: NodeProto) -> int:
    if node.op_type == "Gemm":
        transposed = any(entry.name == "transB" and entry.i for entry in node.attribute)
        return 0 if transposed else 1
    return 0 if node.op_type == "Conv" else 1
