"""Rewrite the parts of our graphs that TensorRT's parser does not read in operators that it reads."""

from collections import Counter

import onnx
from onnx import NodeProto, TensorProto, helper

from nexus_export.onnx_graphs.attention import decomposed


def parseable(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy that computes the same: attention in standard operators, UINT8 at the border alone.

    TensorRT knows UINT8 in inputs and outputs that a Cast reads or writes, and nowhere else; our graphs move a
    picture's channels while it has a quarter of the bytes. Weights in a file beside the graph stay there.
    """
    plain = decomposed(model)
    # Types and shapes recorded for inner tensors would be those of before.
    del plain.graph.value_info[:]
    pictures = {
        value.name
        for value in (*plain.graph.input, *plain.graph.output)
        if value.type.tensor_type.elem_type == TensorProto.UINT8
    }
    readers = Counter(name for node in plain.graph.node for name in node.input)
    writers = {name: node for node in plain.graph.node for name in node.output}
    for second in plain.graph.node:
        first = writers.get(second.input[0]) if second.input else None
        if first is None or readers[first.output[0]] > 1:
            continue
        moves_input = first.op_type == "Transpose" and first.input[0] in pictures and second.op_type == "Cast"
        moves_output = _casts_to_uint8(first) and second.op_type == "Transpose"
        if moves_input or (moves_output and second.output[0] in pictures):
            _exchange(first, second)
    return plain


def _casts_to_uint8(node: NodeProto) -> bool:
    return node.op_type == "Cast" and helper.get_attribute_value(node.attribute[0]) == TensorProto.UINT8


def _exchange(first: NodeProto, second: NodeProto) -> None:
    """Swap two nodes in a row, each of one input and one output."""
    names = [(list(node.input), list(node.output)) for node in (first, second)]
    kept = NodeProto()
    kept.CopyFrom(first)
    for node, content, (inputs, outputs) in ((first, second, names[0]), (second, kept, names[1])):
        node.CopyFrom(content)
        del node.input[:], node.output[:]
        node.input.extend(inputs)
        node.output.extend(outputs)
