"""Teach torch's TorchScript exporter to write `scaled_dot_product_attention` as one node; see `attention`.

Shapes: B batch, H heads, S queries, L keys, D and E the width of a head's keys and values.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.onnx import symbolic_helper

from nexus_export.onnx_graphs.attention import DOMAIN, OPERATOR, SWAP_HEADS

_ATEN = "aten::scaled_dot_product_attention"


@contextmanager
def fused_attention(opset: int) -> Iterator[None]:
    """While open, torch's TorchScript exporter writes each `scaled_dot_product_attention` as one node.

    Queries, keys and values that were made as `x.view(B, S, H, D).transpose(1, 2)` reach the node without a copy.
    H and D are fixed at their traced values. A causal mask has to be given as a mask, dropout is left out, and grouped
    queries are not supported.
    """
    torch.onnx.register_custom_op_symbolic(_ATEN, _symbolic, opset)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.onnx.unregister_custom_op_symbolic(_ATEN, opset)  # type: ignore[attr-defined]


@symbolic_helper.parse_args("v", "v", "v", "v", "f", "b", "v", "b")
def _symbolic(
    g: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any,
    _dropout: float,
    is_causal: bool,
    scale: Any,
    is_grouped: bool,
) -> Any:
    """The exporter's symbolic function for attention; tensors are values of its graph, q [B,H,S,D], k and v alike."""
    if is_causal or is_grouped:
        raise NotImplementedError("no export for attention that is causal by itself or of grouped queries")
    traced = [_sizes(tensor) for tensor in g.original_node.inputs()][:4]
    heads, width = traced[0][1], traced[0][3]
    # Written out even if it is the default, so that readers of the graph need not know the queries' width.
    given = None if symbolic_helper._is_none(scale) else symbolic_helper._parse_arg(scale, "f")
    factor = given or 1 / math.sqrt(width)
    inputs = [_joined(g, *pair) for pair in zip((query, key, value), traced, strict=False)]
    if not symbolic_helper._is_none(mask):
        absent = g.op("prim::Constant")
        absent.setType(torch._C.OptionalType.ofTensor())
        inputs += [absent, absent, _bias(g, inputs, mask, traced)]
    flat = g.op(f"{DOMAIN}::{OPERATOR}", *inputs, num_heads_i=heads, scale_f=factor)
    split = symbolic_helper._reshape_helper(g, flat, [0, -1, heads, traced[2][3]])
    mixed = g.op("Transpose", split, perm_i=SWAP_HEADS)
    # torch's shape inference does not know the operator.
    batch, _, length, _ = _sizes(query)
    mixed.setType(query.type().with_sizes([batch, heads, length, traced[2][3]]))
    return mixed


def _sizes(tensor: Any) -> Any:
    """The sizes of a tensor, None where dynamic; None for an absent tensor."""
    return symbolic_helper._get_tensor_sizes(tensor)


def _joined(g: Any, heads: Any, sizes: Any) -> Any:
    """[B,H,S,D] to [B,S,H*D]; `sizes` are those of the trace."""
    node = heads.node()
    if node.kind() == "onnx::Transpose" and symbolic_helper._node_get(node, "perm") == SWAP_HEADS:
        swapped = next(node.inputs())
    else:
        swapped = g.op("Transpose", heads, perm_i=SWAP_HEADS)
    return symbolic_helper._reshape_helper(g, swapped, [0, -1, sizes[1] * sizes[3]])


def _bias(g: Any, inputs: Any, mask: Any, traced: Any) -> Any:
    """A mask of any kind as an addend of the scores: float, [1 or B, 1 or H, S, L]."""
    queries, keys, sizes = traced[0][2], traced[1][2], traced[3]
    if mask.type().scalarType() == "Bool":
        seen, hidden = (g.op("Constant", value_t=torch.tensor(number)) for number in (0.0, -torch.inf))
        mask = g.op("Where", mask, seen, hidden)
    if sizes[-2:] != [queries, keys]:
        # The operator repeats a bias over batch and heads, but neither over queries nor over keys.
        one = g.op("Constant", value_t=torch.ones(1, dtype=torch.long))
        lengths = [g.op("Shape", tensor, start_i=1, end_i=2) for tensor in inputs[:2]]
        return g.op("Expand", mask, g.op("Concat", one, one, *lengths, axis_i=0))
    return symbolic_helper._unsqueeze_helper(g, mask, list(range(4 - len(sizes)))) if len(sizes) < 4 else mask
