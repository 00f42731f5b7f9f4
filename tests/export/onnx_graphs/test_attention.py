"""Attention as one node: its export for each kind of mask, and the same in plain operators."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from nexus_export.onnx_graphs import attention
from nexus_export.onnx_graphs.element_types import element_types
from nexus_export.onnx_graphs.template import fill
from nexus_export.onnx_graphs.torchscript import export_template
from nexus_export.paths import TEMPLATES
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional

KINDS = ("none", "keys", "bool", "heads", "scale")
HEADS, KEYS = 4, 7
# FP32 sums in another order: seen 3e-7 on outputs near 1.
TOLERANCE = 1e-5


class Attention(nn.Module):
    """Cross-attention whose values are wider than its keys, with one kind of mask."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.q, self.k, self.v = nn.Linear(32, 32), nn.Linear(32, 32), nn.Linear(32, 64)

    def forward(self, x: Tensor, y: Tensor, hide: Tensor) -> Tensor:
        q, k, v = (
            part.view(part.shape[0], -1, HEADS, part.shape[-1] // HEADS).transpose(1, 2)
            for part in (self.q(x), self.k(y), self.v(y))
        )
        mask, scale = None, None
        match self.kind:
            case "keys":
                mask = (hide * -1e4)[:, None, None]
            case "bool":
                mask = (hide == 0)[:, None, None]
            case "heads":
                mask = torch.linspace(-3, 3, HEADS * KEYS * KEYS).view(1, HEADS, KEYS, KEYS)
            case "scale":
                scale = 0.3
        mixed = functional.scaled_dot_product_attention(q, k, v, mask, scale=scale)
        return mixed.transpose(1, 2).flatten(2) + hide[:, :1, None]


def _inputs(batch: int, queries: int) -> dict[str, Tensor]:
    torch.manual_seed(batch)
    hide = (torch.rand(batch, KEYS) < 0.4).float()
    hide[:, 0] = 0
    return {"x": torch.randn(batch, queries, 32), "y": torch.randn(batch, KEYS, 32), "hide": hide}


def _exported(kind: str) -> tuple[Attention, onnx.ModelProto]:
    module = Attention(kind)
    axes = {name: {0: "batch"} for name in ("x", "y", "hide", "out")}
    if kind != "heads":
        axes["x"][1] = axes["out"][1] = "queries"
    template = export_template(module, _inputs(2, KEYS if kind == "heads" else 5), ["out"], axes)
    return module, fill(template, {name: tensor.numpy() for name, tensor in module.state_dict().items()})


def _run(
    model: onnx.ModelProto, inputs: dict[str, Tensor]
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    session = onnxruntime.InferenceSession(model.SerializeToString())
    [out] = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    found: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = out
    return found


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_one_node_and_the_same_numbers(kind: str) -> None:
    module, model = _exported(kind)
    onnx.checker.check_model(model)
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts[attention.OPERATOR] == 1
    assert counts["Softmax"] == 0
    # Those of the three linear layers' weights: queries, keys, values and result reach their places without a copy.
    assert counts["Transpose"] == 3
    for batch, queries in ((3, 7), (1, 7)) if kind == "heads" else ((3, 6), (1, 9)):
        inputs = _inputs(batch, queries)
        assert np.abs(_run(model, inputs) - module(**inputs).numpy()).max() <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_plain_operators_give_the_same(kind: str) -> None:
    module, model = _exported(kind)
    plain = attention.decomposed(model)
    onnx.checker.check_model(plain, full_check=True)
    assert {opset.domain for opset in plain.opset_import} == {""}
    inputs = _inputs(3, KEYS)
    assert np.abs(_run(plain, inputs) - module(**inputs).numpy()).max() <= TOLERANCE


def test_types_and_shapes_are_known_behind_attention() -> None:
    _, model = _exported("keys")
    node = next(node for node in model.graph.node if attention.is_attention(node))
    types = element_types(model)
    assert set(types) >= {name for node in model.graph.node for name in node.output}
    assert types[node.output[0]] == types["out"] == TensorProto.FLOAT
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in attention.infer_shapes(model).graph.value_info
    }
    assert shapes[node.input[0]][2:] == [32]
    assert shapes[node.output[0]][2:] == [64]


def test_causal_attention_is_refused() -> None:
    class Causal(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.scaled_dot_product_attention(x, x, x, is_causal=True)

    with pytest.raises(NotImplementedError, match="causal"):
        export_template(Causal(), {"x": torch.ones(1, 2, 3, 4)}, ["out"], {"x": {}, "out": {}})


@pytest.mark.parametrize("template", sorted(TEMPLATES.glob("*_sd*.onnx")), ids=lambda path: path.stem)
def test_every_softmax_of_the_templates_is_fused(template: Path) -> None:
    counts = Counter(node.op_type for node in onnx.load(str(template)).graph.node)
    assert counts[attention.OPERATOR] >= 1
    assert counts["Softmax"] == 0
