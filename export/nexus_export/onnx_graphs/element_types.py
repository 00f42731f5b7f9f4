"""Element types of every tensor in a graph, without its shapes.

onnx's own inference stops at operators that it does not know, and fails where a weight carries no data.
"""

from collections.abc import Mapping

import onnx
from onnx import NodeProto, TensorProto, defs, helper

_BY_TEXT = {f"tensor({name.lower()})": number for name, number in TensorProto.DataType.items()}


def element_types(model: onnx.ModelProto) -> dict[str, int]:
    """`TensorProto.DataType` of every tensor by its name; those of subgraphs are not looked at.

    A node's output has the type that its operator's schema or an attribute names, or that of the input which the
    schema binds to the same type; of an operator that onnx does not know (ONNX Runtime's), that of the first input.
    """
    version = next(opset.version for opset in model.opset_import if not opset.domain)
    types = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        types.update(_output_types(node, version, types))
    return types


def _output_types(node: NodeProto, version: int, types: Mapping[str, int]) -> dict[str, int]:
    if node.domain:
        return dict.fromkeys(filter(None, node.output), types[node.input[0]])
    schema = defs.get_schema(node.op_type, version)
    # The last formal input or output stands for all that follow.
    formal = [schema.inputs[min(i, len(schema.inputs) - 1)].type_str for i in range(len(node.input))]
    bound = {kind: types[name] for kind, name in zip(formal, node.input, strict=True) if name}
    found = {}
    for index, name in enumerate(node.output):
        output = schema.outputs[min(index, len(schema.outputs) - 1)]
        if name and output.type_str in bound:
            found[name] = bound[output.type_str]
        elif name:
            found[name] = _BY_TEXT[min(output.types)] if len(output.types) == 1 else _by_attribute(node)
    return found


def _by_attribute(node: NodeProto) -> int:
    """The type that Cast, Constant, ConstantOfShape, QuantizeLinear and their like write."""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
    if "value" in attributes:
        return int(attributes["value"].data_type)
    if "value_ints" in attributes or "value_int" in attributes:
        return TensorProto.INT64
    for name in ("to", "dtype", "output_dtype"):
        if attributes.get(name):
            return int(attributes[name])
    return TensorProto.UINT8 if node.op_type == "QuantizeLinear" else TensorProto.FLOAT
