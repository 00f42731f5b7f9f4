"""The graphs for TensorRT's parser compute the same as the ONNX files."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from nexus_export.engines.graph import parseable
from nexus_export.exported import Array
from nexus_export.precision.symmetric import make_symmetric
from onnx import TensorProto, helper

Artifact = Callable[[str], Path]


@pytest.mark.parametrize("name", ["u2net", "sdxl_vae_encoder", "sdxl_vae_decoder"])
def test_the_graph_for_the_parser_computes_the_same(artifact: Artifact, name: str) -> None:
    """To the last bit where only a cast and a transposition have changed places."""
    model = onnx.load(str(artifact(name)))
    generator = np.random.default_rng(1)
    inputs = {
        "u2net": {"image": generator.integers(0, 256, (1, 320, 320, 3), np.uint8)},
        "sdxl_vae_encoder": {"image": generator.integers(0, 256, (1, 64, 96, 3), np.uint8)},
        "sdxl_vae_decoder": {"latent": generator.standard_normal((1, 4, 8, 12)).astype(np.float32)},
    }[name]
    plain = parseable(model)
    before, after = (_run(graph, inputs) for graph in (model, plain))
    assert before.dtype == after.dtype
    # Attention, where there is one, is summed up in another order: a level of 255, a thousandth of a latent.
    assert np.abs(before.astype(float) - after.astype(float)).max() <= {
        "u2net": 0,
        "sdxl_vae_decoder": 1,
    }.get(name, 1e-3)
    pictures = {
        value.name
        for value in (*plain.graph.input, *plain.graph.output)
        if value.type.tensor_type.elem_type == TensorProto.UINT8
    }
    touching = [node for node in plain.graph.node if pictures.intersection((*node.input, *node.output))]
    assert {node.op_type for node in touching} == {"Cast"}


def test_symmetric_int8_covers_the_range_of_uint8() -> None:
    """TensorRT's INT8 is as near to FP32 as the ONNX file's, but for the bit that one-sided tensors lose."""
    model = _quantized(scale=0.02, zero=100)
    values = np.linspace(-2.0, 3.1, 52, dtype=np.float32)[None]
    assert np.abs(_run(model, {"x": values}) - values).max() <= 0.02 / 2 + 1e-6
    plain = onnx.ModelProto()
    plain.CopyFrom(model)
    make_symmetric(plain)
    # 155 levels of 0.02 above zero are 127 of 0.0244.
    assert np.abs(_run(plain, {"x": values}) - values).max() <= 0.02 * 155 / 127 / 2 + 1e-6
    kinds = {tensor.name: tensor.data_type for tensor in plain.graph.initializer}
    assert {kinds[node.input[2]] for node in plain.graph.node} == {TensorProto.INT8}


def _quantized(scale: float, zero: int) -> onnx.ModelProto:
    constants = [
        onnx.numpy_helper.from_array(np.array(scale, np.float32), "scale"),
        onnx.numpy_helper.from_array(np.array(zero, np.uint8), "zero"),
    ]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 52]) for name in "xy")
    graph = helper.make_graph(nodes, "quantized", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _run(model: onnx.ModelProto, inputs: Mapping[str, Array]) -> Array:
    options = onnxruntime.SessionOptions()
    # The graphs are compared, not onnxruntime's optimised forms of them.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    result: Array = session.run(None, inputs)[0]
    return result
