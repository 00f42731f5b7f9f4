"""Fused attention: the one node for it that our graphs contain, and the same in plain operators.

ONNX Runtime computes `com.microsoft.MultiHeadAttention` without the matrix of scores, tile by tile (Dao et al. 2022,
arXiv:2205.14135): on a CPU where the node has no bias, on a GPU in most cases. Engines that do not know the operator
recognise its plain form, `decomposed`, and fuse that themselves. Needs no torch.

Shapes: B batch, H heads, S queries, L keys, D and E the width of a head's queries and values.
"""

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from nexus_export.onnx_graphs.element_types import element_types

# Of ONNX Runtime's own operators, and the one of them that the graphs contain. Its inputs: queries [B,S,H*D],
# keys [B,L,H*D], values [B,L,H*E], two that we leave out, and a bias [1 or B,1 or H,S,L]; its output [B,S,H*E].
DOMAIN = "com.microsoft"
OPERATOR = "MultiHeadAttention"

# The permutation from [B,H,S,D] to [B,S,H,D], and back.
SWAP_HEADS = [0, 2, 1, 3]


def decomposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with every attention node in standard operators: matrix product, softmax, matrix product.

    The tensors that were there keep their names. Queries are scaled before the product, which in FP16 could overflow
    otherwise. Values narrower than keys are filled up: TensorRT fuses nothing else, and SAM ViT-B's global block then
    takes the matrix of scores, 859 MB in FP16 instead of 94.
    """
    types = element_types(model)
    widths = _widths(model)
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    nodes = list(plain.graph.node)
    del plain.graph.node[:]
    for node in nodes:
        if is_attention(node):
            wider = widths.get(node.input[1], 0) - widths.get(node.input[2], 0)
            heads = next(attribute.i for attribute in node.attribute if attribute.name == "num_heads")
            plain.graph.node.extend(_plain(node, types[node.input[0]], max(wider, 0) // heads))
        else:
            plain.graph.node.append(node)
    domains = [opset for opset in plain.opset_import if opset.domain != DOMAIN]
    del plain.opset_import[:]
    plain.opset_import.extend(domains)
    return plain


def infer_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """`onnx.shape_inference.infer_shapes`, which by itself stops at attention nodes."""
    inferred = onnx.shape_inference.infer_shapes(decomposed(model))
    known = onnx.ModelProto()
    known.CopyFrom(model)
    own = {name for node in model.graph.node for name in node.output}
    del known.graph.value_info[:]
    known.graph.value_info.extend(value for value in inferred.graph.value_info if value.name in own)
    return known


def is_attention(node: NodeProto) -> bool:
    """Whether the node is fused attention."""
    return node.domain == DOMAIN and node.op_type == OPERATOR


def _widths(model: onnx.ModelProto) -> dict[str, int]:
    """H*D of every tensor that a Reshape made [B,S,H*D] with a constant shape, as the exporter does."""
    shapes = {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
    return {
        node.output[0]: int(numpy_helper.to_array(shapes[node.input[1]])[-1])
        for node in model.graph.node
        if node.op_type == "Reshape" and node.input[1] in shapes
    }


def _plain(node: NodeProto, kind: int, missing: int) -> Iterator[NodeProto]:
    """The nodes for one attention node on tensors of type `kind`, whose values lack `missing` channels a head."""
    out = node.output[0]
    query, key, value = node.input[:3]
    bias = node.input[5] if len(node.input) > 5 else ""
    attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}

    def name(part: str) -> str:
        return f"{out}/{part}"

    def constant(part: str, number: NDArray[np.generic]) -> NodeProto:
        return helper.make_node("Constant", [], [name(part)], value=numpy_helper.from_array(number))

    dtype = helper.tensor_dtype_to_np_dtype(kind)
    yield constant("heads", np.array([0, 0, attributes["num_heads"], -1], np.int64))
    yield constant("joined", np.array([0, 0, -1], np.int64))
    yield constant("scale", np.array(attributes["scale"], dtype))
    for part, tensor, perm in (
        ("query", query, SWAP_HEADS),
        ("key", key, [0, 2, 3, 1]),
        ("value", value, SWAP_HEADS),
    ):
        yield helper.make_node("Reshape", [tensor, name("heads")], [name(f"{part}_heads")])
        yield helper.make_node("Transpose", [name(f"{part}_heads")], [name(part)], perm=perm)
    yield helper.make_node("Mul", [name("query"), name("scale")], [name("scaled")])
    yield helper.make_node("MatMul", [name("scaled"), name("key")], [name("products")])
    if bias:
        yield helper.make_node("Add", [name("products"), bias], [name("scores")])
    scores = name("scores" if bias else "products")
    yield helper.make_node("Softmax", [scores], [name("shares")], axis=-1)
    mixed, values = name("mixed"), name("value")
    if missing:
        yield constant("missing", np.array([0, 0, 0, 0, 0, 0, 0, missing], np.int64))
        yield helper.make_node("Pad", [values, name("missing")], [name("wide")])
        values = name("wide")
    yield helper.make_node("MatMul", [name("shares"), values], [mixed])
    if missing:
        yield constant("zero", np.array([0], np.int64))
        yield constant("end", np.array([-missing], np.int64))
        yield constant("last", np.array([3], np.int64))
        yield helper.make_node("Slice", [mixed, name("zero"), name("end"), name("last")], [name("own")])
        mixed = name("own")
    yield helper.make_node("Transpose", [mixed], [name("mixed_heads")], perm=SWAP_HEADS)
    yield helper.make_node("Reshape", [name("mixed_heads"), name("joined")], [out])
