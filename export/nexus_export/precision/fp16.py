"""FP16: weights and most computations at half precision, by a pass over the FP32 graph.

The pass reads types and names only, so a template without weights is as good as a graph that holds them. FP32 stay:
inputs and outputs; the operators that `networks` names; nodes that no weight takes part in (sizes, angles of
timesteps and of Fourier matrices, pixels before the first layer), which costs little and reaches numbers that FP16
holds too coarsely; and nodes that read a number that FP16 cannot hold.
"""

from collections.abc import Collection, Iterator

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, defs, helper, numpy_helper

from nexus_export.errors import BuildError
from nexus_export.onnx_graphs.element_types import element_types

# In a set of operators: all of them. Weights are then stored in FP16, and nothing is computed in it.
ALL_OPS = "*"

_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
# They read a tensor of any type, which does not change the type of their output.
_TYPELESS = {"Shape", "Size", "Cast"}
# Operators that may stand between a weight and the operator that computes with it.
_ARRANGING = {"Transpose", "Reshape", "Identity"}
# The opset from which quantized tensors become FP16; before, the operator that reads them stays FP32 with them.
HALF_DEQUANTIZE = 19


def to_half(model: onnx.ModelProto, fp32_ops: Collection[str]) -> onnx.ModelProto:
    """Return a copy of an FP32 graph that computes in FP16; its inputs and outputs keep their types.

    Args:
        model: a template, or a graph with its weights.
        fp32_ops: operators that stay FP32 with all their inputs and outputs; `ALL_OPS` is every one.

    Raises BuildError if the graph has an If, a Loop or a Scan.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    nodes = list(_Conversion(half, frozenset(fp32_ops)).nodes())
    del half.graph.node[:]
    del half.graph.value_info[:]
    half.graph.node.extend(nodes)
    return half


class _Conversion:
    """The part of one graph that becomes FP16. A tensor keeps the type of its writer, and is cast for other readers."""

    def __init__(self, model: onnx.ModelProto, fp32_ops: frozenset[str]) -> None:
        self.graph = model.graph
        self.version = next(opset.version for opset in model.opset_import if not opset.domain)
        self.types = element_types(model)
        weights = {tensor.name: tensor for tensor in self.graph.initializer if self._is_float(tensor.name)}
        constants = {
            node.output[0]: node.attribute[0].t
            for node in self.graph.node
            if node.op_type == "Constant" and self._is_float(node.output[0])
        }
        kept = {name for name, tensor in (weights | constants).items() if not _fits(tensor)}
        self.chosen = self._choose(fp32_ops, weights.keys(), kept)
        readers = [self._read(node, index) for index, node in enumerate(self.graph.node)]
        singly = {name for reads in readers for name, kind in reads if kind == _FLOAT}
        halfly = {name for reads in readers for name, kind in reads if kind == _HALF}
        # A matrix is stored in FP16 even where all that read it compute in FP32; constants only where none does.
        numbers = {name: tensor for name, tensor in weights.items() if name in halfly or len(tensor.dims) > 1}
        numbers |= {name: tensor for name, tensor in constants.items() if name in halfly - singly}
        for name in numbers.keys() - kept:
            _halve(numbers[name])
        # Tensors that are FP16 by themselves.
        self.half = numbers.keys() - kept
        for index in self.chosen:
            node = self.graph.node[index]
            self.half |= {name for name, types in self._slots(node, outputs=True) if _may_be_half(types)}

    def nodes(self) -> Iterator[NodeProto]:
        """The nodes of the converted graph, in order."""
        cast: dict[str, str] = {}
        results = {output.name for output in self.graph.output} & self.half
        for index, node in enumerate(self.graph.node):
            for position, (name, kind) in enumerate(self._read(node, index)):
                if kind is None or (kind == _HALF) == (name in self.half):
                    continue
                if name not in cast:
                    cast[name] = f"{name}/{'half' if kind == _HALF else 'single'}"
                    yield helper.make_node("Cast", [name], [cast[name]], to=kind)
                node.input[position] = cast[name]
            if index in self.chosen and node.op_type == "Cast" and node.output[0] in self.half:
                node.attribute[0].i = _HALF
            written = results.intersection(node.output)
            for position, name in enumerate(node.output):
                if name in written:
                    node.output[position] = cast[name] = f"{name}/half"
            yield node
            for name in written:
                yield helper.make_node("Cast", [cast[name]], [name], to=_FLOAT)
                self.half.remove(name)

    def _is_float(self, name: str) -> bool:
        return bool(name) and self.types[name] == _FLOAT

    def _choose(self, fp32_ops: frozenset[str], weights: Collection[str], kept: set[str]) -> set[int]:
        """The nodes, by their index, that compute in FP16."""
        learned, single, chosen = set(weights), set(kept), set()
        for index, node in enumerate(self.graph.node):
            if any(attribute.type == AttributeProto.GRAPH for attribute in node.attribute):
                raise BuildError(f"FP16 knows no graphs with {node.op_type}; build this network in FP32.")
            if learned.isdisjoint(node.input) or node.op_type in {"Shape", "Size"}:
                continue
            learned.update(node.output)
            arranged = not single.isdisjoint(node.input) and node.op_type in _ARRANGING
            if arranged or (node.op_type == "DequantizeLinear" and self.version < HALF_DEQUANTIZE):
                single.update(node.output)
            named = node.op_type in fp32_ops or ALL_OPS in fp32_ops
            types = [types for _, types in (*self._slots(node), *self._slots(node, outputs=True))]
            able = all(_may_be_half(allowed) or len(allowed) == 1 for allowed in types)
            if able and not named and single.isdisjoint(node.input):
                chosen.add(index)
        return chosen

    def _read(self, node: NodeProto, index: int) -> list[tuple[str, int | None]]:
        """Every input's name and the float type that the node needs; None if any will do."""
        wants: list[tuple[str, int | None]] = [(name, None) for name in node.input]
        if node.op_type not in _TYPELESS:
            allowed = dict(self._slots(node))
            for position, name in enumerate(node.input):
                if name in allowed:
                    half = index in self.chosen and _may_be_half(allowed[name])
                    wants[position] = (name, _HALF if half else _FLOAT)
        return wants

    def _slots(self, node: NodeProto, *, outputs: bool = False) -> Iterator[tuple[str, Collection[str]]]:
        """The float inputs or outputs of a node, each with the types that its operator allows there."""
        names = node.output if outputs else node.input
        if node.domain:
            yield from (
                (name, ["tensor(float)", "tensor(float16)"]) for name in names if self._is_float(name)
            )
            return
        schema = defs.get_schema(node.op_type, self.version)
        formal = schema.outputs if outputs else schema.inputs
        for position, name in enumerate(names):
            if self._is_float(name):
                yield name, formal[min(position, len(formal) - 1)].types


def _may_be_half(types: Collection[str]) -> bool:
    return "tensor(float16)" in types


def _fits(tensor: TensorProto) -> bool:
    """Whether FP16 can hold the numbers of a tensor, as far as they are known."""
    if not (tensor.raw_data or tensor.float_data):
        return True
    numbers = np.abs(numpy_helper.to_array(tensor))
    too_large = (numbers > np.finfo(np.float16).max) & np.isfinite(numbers)
    # A tiny number among many does not matter; alone it keeps a divisor from zero. FP16's smallest is 2**-24.
    vanishes = numbers.size == 1 and (numbers > 0) & (numbers < 2**-25)
    return not np.any(too_large | vanishes)


def _halve(tensor: TensorProto) -> None:
    """Make a tensor FP16, with its numbers where it has any."""
    if tensor.raw_data or tensor.float_data:
        numbers = numpy_helper.to_array(tensor).astype(np.float16)
        tensor.CopyFrom(numpy_helper.from_array(numbers, tensor.name))
    else:
        tensor.data_type = _HALF
