"""Raise a graph of any size to a later opset."""

import onnx
from onnx import TensorProto, version_converter

# The first IR version that all opsets up to 21 may stand in.
_IR_VERSION = 10
# Tensors of more bytes are kept from the converter, which serialises the graph: a protobuf message ends at 2 GB.
_LARGE_BYTES = 1 << 16


def raised(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """Return `model` in at least the opset `version`, at most 21; it is changed and must not be used any more.

    Large weights are moved and not copied through the converter, which needs small ones alone: sizes and axes.
    """
    if next(entry.version for entry in model.opset_import if not entry.domain) >= version:
        return model
    large = {}
    for tensor in model.graph.initializer:
        if tensor.ByteSize() > _LARGE_BYTES:
            large[tensor.name] = TensorProto()
            large[tensor.name].CopyFrom(tensor)
            tensor.CopyFrom(TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims))
    converted: onnx.ModelProto = version_converter.convert_version(model, version)
    converted.ir_version = max(converted.ir_version, _IR_VERSION)
    # The converter records shapes at batch 1.
    del converted.graph.value_info[:]
    for tensor in converted.graph.initializer:
        if tensor.name in large:
            tensor.CopyFrom(large.pop(tensor.name))
    return converted
