"""Graphs node by node: structure to the letter, constants to the last bits that a processor may choose."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

# Constants that tracing folds are computed by torch, whose exp and sin differ in the last bit from one processor to the
# next: an Intel Xeon and an AMD EPYC gave 1e-7 apart.
RTOL = 1e-6


def assert_same_nodes(found: onnx.ModelProto, expected: onnx.ModelProto, name: str = "") -> None:
    """Raises AssertionError, with `name`, unless both have the same nodes in the same order."""
    (nodes, values), (expected_nodes, expected_values) = _parts(found), _parts(expected)
    assert nodes == expected_nodes, name
    for value, expected_value in zip(values, expected_values, strict=True):
        if np.issubdtype(value.dtype, np.floating):
            np.testing.assert_allclose(value, expected_value, rtol=RTOL, atol=0, err_msg=name)
        else:
            assert np.array_equal(value, expected_value), name


def _parts(model: onnx.ModelProto) -> tuple[list[onnx.NodeProto], list[NDArray[Any]]]:
    """The nodes without the contents of their tensors, and these."""
    nodes, values = [], []
    for node in model.graph.node:
        bare = onnx.NodeProto()
        bare.CopyFrom(node)
        for attribute in bare.attribute:
            if attribute.HasField("t"):
                values.append(numpy_helper.to_array(attribute.t))
                attribute.t.raw_data = b""
        nodes.append(bare)
    return nodes, values
