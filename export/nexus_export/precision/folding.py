"""Fold the constants around a layer into its weights, so that INT8 quantises the numbers that are multiplied.

Templates keep a checkpoint's weights apart from batch normalisation and from transposition, see
`onnx_graphs.template`; published graphs may be of an opset that knows no scales per channel.
"""

from collections import defaultdict

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper, version_converter

# The first opset in which a weight has a scale for every channel.
_OPSET = 13

Float = NDArray[np.float64]
_CONVOLUTIONS = {"Conv": 0, "ConvTranspose": 1}  # and the axis of the weights' output channels


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy in which transposes of weights and batch normalisations behind convolutions are gone.

    The weights keep their names; a bias that a convolution did not have is named after its weights. Batch
    normalisation is a scale and a shift per channel: exactly those of the convolution before it, or of each of
    the convolutions whose sum it is given (Jacob et al. 2017, arXiv:1712.05877, section 3.2).
    """
    folded = onnx.ModelProto()
    folded.CopyFrom(model)
    if next(entry.version for entry in model.opset_import if not entry.domain) < _OPSET:
        folded = version_converter.convert_version(folded, _OPSET)
        # The converter records shapes at batch 1.
        del folded.graph.value_info[:]
    graph = _Graph(folded.graph)
    for node in list(folded.graph.node):
        if node.op_type == "Transpose" and node.input[0] in graph.weights:
            _fold_transpose(graph, node)
        elif node.op_type == "BatchNormalization":
            _fold_normalisation(graph, node)
    read = {name for node in folded.graph.node for name in node.input}
    kept = [tensor for tensor in folded.graph.initializer if tensor.name in read]
    del folded.graph.initializer[:]
    folded.graph.initializer.extend(kept)
    return folded


class _Graph:
    """A graph's nodes by the tensors that they read and write."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.proto = graph
        self.weights = {tensor.name: tensor for tensor in graph.initializer}
        self.writer = {name: node for node in graph.node for name in node.output}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in graph.node:
            for name in node.input:
                self.readers[name].append(node)

    def array(self, name: str) -> Float:
        return numpy_helper.to_array(self.weights[name]).astype(np.float64)

    def store(self, name: str, values: Float) -> None:
        tensor = numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name)
        if name in self.weights:
            self.weights[name].CopyFrom(tensor)
        else:
            self.proto.initializer.append(tensor)
            self.weights[name] = self.proto.initializer[-1]


def _fold_transpose(graph: _Graph, node: NodeProto) -> None:
    name = node.input[0]
    if graph.weights[name].data_type != TensorProto.FLOAT or len(graph.readers[name]) > 1:
        return
    axes = helper.get_node_attr_value(node, "perm") if node.attribute else None
    graph.store(name, graph.array(name).transpose(axes))
    readers = graph.readers[node.output[0]]
    for reader in readers:
        reader.input[:] = [name if read == node.output[0] else read for read in reader.input]
    graph.readers[name] = readers
    graph.proto.node.remove(node)


def _fold_normalisation(graph: _Graph, node: NodeProto) -> None:
    source = graph.writer[node.input[0]]
    convolutions = [graph.writer.get(name) for name in source.input] if source.op_type == "Add" else [source]
    for convolution in convolutions:
        if convolution is None or convolution.op_type not in _CONVOLUTIONS:
            return
    between = {source.output[0], *(convolution.output[0] for convolution in convolutions if convolution)}
    if any(len(graph.readers[name]) > 1 for name in between):
        return
    gamma, beta, mean, variance = (graph.array(name) for name in node.input[1:])
    scale = gamma / np.sqrt(variance + helper.get_node_attr_value(node, "epsilon"))
    shift = beta - mean * scale
    for convolution in convolutions:
        assert convolution is not None
        weights = convolution.input[1]
        axis = _CONVOLUTIONS[convolution.op_type]
        graph.store(weights, graph.array(weights) * np.expand_dims(scale, [a for a in range(4) if a != axis]))
        biased = len(convolution.input) > 2
        bias = graph.array(convolution.input[2]) * scale if biased else np.zeros_like(scale)
        bias_name = convolution.input[2] if biased else f"{weights}.folded_bias"
        graph.store(bias_name, bias + shift)
        convolution.input[:] = [convolution.input[0], weights, bias_name]
        shift = np.zeros_like(shift)  # the sum is shifted once
    source.output[0] = node.output[0]
    graph.writer[node.output[0]] = source
    graph.proto.node.remove(node)
