"""Graphs without weights: exported once by torch, committed, and filled by numpy alone.

A template is an ONNX model whose weights keep their name, shape and type but carry no data. The names are
those of the torch module's state dict, so a published checkpoint fills a template by its own key names.
"""

import math
from collections import defaultdict
from collections.abc import Mapping
from itertools import count

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from nexus_export.errors import TemplateError


def strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy of `model` without the data of its weights.

    A weight is an initializer named like a state-dict key ("mlp.lin1.bias"). A name that torch makes up
    ("onnx::MatMul_12") is that of a derived constant, which belongs to the graph and keeps its data; a weight
    under such a name would escape `fill`, so export with `do_constant_folding=False`.

    The producer's version is dropped too: a template changes when the graph does, not with every torch.
    """
    template = onnx.ModelProto()
    template.CopyFrom(model)
    template.producer_version = ""
    for tensor in template.graph.initializer:
        if "::" not in tensor.name:
            empty = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(empty)
    return template


def shorten_names(template: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose nodes have no names and whose inner tensors are numbered.

    The names repeat the path of each node's torch module: four fifths of a large template.
    """
    model = onnx.ModelProto()
    model.CopyFrom(template)
    inner = {name for node in model.graph.node for name in node.output}
    inner -= {output.name for output in model.graph.output}
    taken = {tensor.name for tensor in model.graph.initializer}
    free = (str(number) for number in count() if str(number) not in taken)
    numbers: defaultdict[str, str] = defaultdict(lambda: next(free))
    for node in model.graph.node:
        node.name = ""
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name in inner:
                    names[index] = numbers[name]
    return model


def weight_shapes(template: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the weights that `template` waits for, in graph order."""
    return {tensor.name: tuple(tensor.dims) for tensor in template.graph.initializer if _is_empty(tensor)}


def weight_bytes(template: onnx.ModelProto) -> int:
    """The bytes of all initializers, with data or without, in the types that they declare."""
    return sum(_dtype(tensor).itemsize * math.prod(tensor.dims) for tensor in template.graph.initializer)


def check_names(
    template: onnx.ModelProto, weights: Mapping[str, NDArray[np.generic]]
) -> dict[str, tuple[int, ...]]:
    """Check that `weights` has the names that `template` waits for, and return `weight_shapes`.

    Raises TemplateError if a weight is missing or surplus.
    """
    expected = weight_shapes(template)
    missing, surplus = expected.keys() - weights.keys(), weights.keys() - expected.keys()
    if missing or surplus:
        raise TemplateError(
            f"the weights do not belong to this template: {_some('missing', missing)}, "
            f"{_some('surplus', surplus)}; use the checkpoint that the template was exported for."
        )
    return expected


def cast_weight(tensor: onnx.TensorProto, weight: NDArray[np.generic]) -> NDArray[np.generic]:
    """`weight` in the type that the initializer declares, in C order.

    Raises TemplateError if it is of another shape.
    """
    if weight.shape != tuple(tensor.dims):
        raise TemplateError(
            f"the weight {tensor.name} has the shape {list(weight.shape)} where the template wants "
            f"{list(tensor.dims)}; use the checkpoint that the template was exported for."
        )
    # Not ascontiguousarray, which makes a vector of a scalar.
    cast: NDArray[np.generic] = np.asarray(weight, _dtype(tensor), order="C")
    return cast


def fill(template: onnx.ModelProto, weights: Mapping[str, NDArray[np.generic]]) -> onnx.ModelProto:
    """Return a copy of `template` with `weights` put in, cast to the type that each initializer declares.

    Args:
        template: the result of `strip`, written to disk and read back.
        weights: arrays by state-dict name; FP16 storage of FP32 weights is fine.

    Raises TemplateError if a weight is missing, surplus or of another shape.
    """
    expected = check_names(template, weights)
    model = onnx.ModelProto()
    model.CopyFrom(template)
    for tensor in model.graph.initializer:
        if tensor.name in expected:
            weight = cast_weight(tensor, weights[tensor.name])
            tensor.CopyFrom(numpy_helper.from_array(weight, tensor.name))
    return model


def _dtype(tensor: onnx.TensorProto) -> np.dtype[np.generic]:
    dtype: np.dtype[np.generic] = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    return dtype


def _is_empty(tensor: onnx.TensorProto) -> bool:
    # A zero among the dims means no elements, so no data is the whole of it; a scalar has no dims and one.
    if 0 in tensor.dims:
        return False
    return not (tensor.raw_data or tensor.float_data or tensor.int32_data or tensor.int64_data)


def _some(kind: str, names: set[str]) -> str:
    listed = ", ".join(sorted(names)[:3])
    more = ", ..." if len(names) > 3 else ""
    return f"{len(names)} {kind}" + (f" ({listed}{more})" if names else "")
