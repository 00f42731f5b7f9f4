"""Put a published ONNX graph behind our own inputs and outputs, without torch."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper


def wrap(
    core: onnx.ModelProto,
    name: str,
    before: Sequence[onnx.NodeProto],
    after: Sequence[onnx.NodeProto],
    constants: Mapping[str, NDArray[np.generic]],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Return `core` between two lists of nodes, with new inputs and outputs.

    The last of `before` writes the tensors that `core` reads, `after` reads what `core` writes and writes
    `outputs`; all three share one namespace. Nodes and weights that no output needs are left out, so is
    the shape information recorded for the old inputs. Opset and IR version stay the core's, so that every runtime
    of the published file runs this one.
    """
    # No initializers: those are learned weights, and compute in FP16 where the network does.
    numbers = [
        onnx.helper.make_node("Constant", [], [key], value=numpy_helper.from_array(np.asarray(value)))
        for key, value in constants.items()
    ]
    nodes = _needed([*numbers, *before, *core.graph.node, *after], {output.name for output in outputs})
    read = {tensor for node in nodes for tensor in node.input}
    weights = [tensor for tensor in core.graph.initializer if tensor.name in read]
    graph = onnx.helper.make_graph(nodes, name, list(inputs), list(outputs), weights)
    model = onnx.helper.make_model(
        graph, opset_imports=core.opset_import, ir_version=core.ir_version, producer_name="nexus-export"
    )
    onnx.checker.check_model(model)
    return model


def _needed(nodes: Sequence[onnx.NodeProto], outputs: set[str]) -> list[onnx.NodeProto]:
    """The nodes of a topologically sorted list that `outputs` depend on, in the same order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    return kept[::-1]
