"""The range of each activation over real rows, which INT8 divides into its 256 steps."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime
from onnx import TensorProto, helper

from nexus_export.exported import Array
from nexus_export.onnx_graphs.writing import write_network

# The least and the largest value of an activation, by its tensor's name.
Ranges = Mapping[str, tuple[float, float]]


def measure_ranges(
    model: onnx.ModelProto, tensors: Sequence[str], rows: Iterable[Mapping[str, Array]]
) -> Ranges:
    """Run `model` on `rows` and return the range of each of `tensors`, which always holds 0.

    The range is the least and largest value of all rows, not a percentile: outliers carry u2netp's alpha, which is two
    to three times worse by percentiles, and no better by the least entropy. Reduced in the graph, so that no activation
    outlives its node. Changes `model`, and changes it back.
    """
    graph = model.graph
    nodes, outputs = len(graph.node), [output.name for output in graph.output]
    for index, name in enumerate(tensors):
        for kind in ("ReduceMin", "ReduceMax"):
            bound = f"{kind}{index}"
            graph.node.append(helper.make_node(kind, [name], [bound], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(bound, TensorProto.FLOAT, []))
    options = onnxruntime.SessionOptions()
    options.enable_mem_pattern = False  # plans memory for every size that it meets, and keeps it
    # Inner tensors must still be there, and outliers of fused operators be those of the plain ones.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            write_network(model, path)
            session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    finally:
        del graph.node[nodes:], graph.output[len(outputs) :]
    bounds = [output.name for output in session.get_outputs()[len(outputs) :]]
    found = [session.run(bounds, dict(row)) for row in rows]
    return {
        name: (
            min(0.0, *(float(row[2 * index]) for row in found)),
            max(0.0, *(float(row[2 * index + 1]) for row in found)),
        )
        for index, name in enumerate(tensors)
    }
