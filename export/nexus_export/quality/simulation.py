"""FP16 arithmetic on a CPU: a graph that computes in FP32 and rounds every FP16 tensor as a GPU does.

onnxruntime's CPU provider computes FP16 operators in FP32 and drops the casts between them, so that only the rounding
of weights shows. Explicit casts it keeps.
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from nexus_export.exported import InferenceFn
from nexus_export.inference import onnx_run
from nexus_export.onnx_graphs.element_types import element_types

#: How the figures of an artifact came about, in words.
SIMULATED = "FP16 rounding simulated: a CPU computes in FP32"

#: They write FP16 whatever they read, and nothing has to be rounded.
_MAKERS = {"Cast", "Constant"}


def halves(model: onnx.ModelProto) -> set[str]:
    """The FP16 tensors of a graph, by name."""
    return {name for name, kind in element_types(model).items() if kind == TensorProto.FLOAT16}


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an FP16 graph as one that computes in FP32, and whose values have FP16's range and precision.

    Each operator's result is rounded once, to infinity beyond 65504: sums within one (matrix products,
    normalisations, attention) are FP32, as tensor cores accumulate them. Weights stay where they lie, in FP16.

    Args:
        model: with FP32 inputs and outputs, as `to_half` gives it; external data may be left out.
    """
    half = halves(model)
    found = onnx.ModelProto()
    found.CopyFrom(model)
    del found.graph.node[:]
    del found.graph.value_info[:]
    nodes = found.graph.node
    for tensor in model.graph.initializer:
        if tensor.name in half:
            nodes.append(_cast(tensor.name, _single(tensor.name), TensorProto.FLOAT))
    for original in model.graph.node:
        node = nodes.add()
        node.CopyFrom(original)
        for position, name in enumerate(node.input):
            if name in half:
                node.input[position] = _single(name)
        for position, name in enumerate(node.output):
            if name not in half:
                continue
            if node.op_type not in _MAKERS:
                node.output[position] = f"{name}/exact"
                nodes.append(_cast(f"{name}/exact", name, TensorProto.FLOAT16))
            nodes.append(_cast(name, _single(name), TensorProto.FLOAT))
    return found


def served_run(path: Path) -> tuple[InferenceFn, bool]:
    """The artifact at `path` in onnxruntime, and whether its FP16 rounding is simulated: where it holds FP16."""
    model = onnx.load(str(path), load_external_data=False)
    if not halves(model):
        return onnx_run(path), False
    return onnx_run(path, rounded(model).SerializeToString()), True


def _single(name: str) -> str:
    return f"{name}/rounded"


def _cast(name: str, to: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [name], [to], to=kind)
