"""FP16: the pass over a graph, and how close every default network stays to FP32 on real photos."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from nexus_export.errors import BuildError
from nexus_export.inference import onnx_run
from nexus_export.networks import NETWORKS
from nexus_export.onnx_graphs.attention import infer_shapes
from nexus_export.onnx_graphs.element_types import element_types
from nexus_export.onnx_graphs.template import fill, weight_shapes
from nexus_export.paths import TEMPLATES
from nexus_export.precision.fp16 import ALL_OPS, to_half
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.photos import Photo, Split, read_photos
from onnx import TensorProto, helper, numpy_helper

PHOTOS = Path(__file__).parents[3] / "demo" / "photos"
CACHE = PHOTOS.parents[1] / "build" / "cache"
NAMES = (
    *("u2net", "isnet", "lama", "sam_encoder", "sam_decoder", "sam2_encoder", "sam2_decoder"),
    *(f"{tier}_{part}" for tier in ("sdxl", "sd15") for part in ("text_encoder", "vae_decoder", "unet")),
)


@pytest.fixture(scope="module")
def evaluator(artifact: Callable[[str], Path]) -> Evaluator:
    """On one photo."""
    photos: dict[Split, list[Photo]] = {"test": read_photos(PHOTOS)["test"][:1]}
    return Evaluator(photos, CACHE, lambda name: onnx_run(artifact(name)))


@pytest.mark.parametrize("name", NAMES)
def test_every_network_passes_its_gate(
    name: str, artifact: Callable[[str], Path], evaluator: Evaluator, tmp_path: Path
) -> None:
    network = NETWORKS[name]
    original = artifact(name)
    model = onnx.load(str(original))
    half = to_half(model, network.fp32_ops)
    onnx.checker.check_model(half)
    assert half.graph.input == model.graph.input
    assert half.graph.output == model.graph.output
    # A half, and the graph's nodes and FP32 numbers: a large share of the tiny networks.
    assert half.ByteSize() <= 0.56 * model.ByteSize()

    path = tmp_path / "model.onnx"
    onnx.save(half, str(path))
    quality, _ = evaluator.measure(network, "fp16", path)
    assert quality.simulated
    assert quality.fault is None
    assert quality.verdict.passed, quality.complaint()


@pytest.mark.parametrize("name", ["u2net", "sam_encoder", "sdxl_unet", "sd15_text_encoder", "lama"])
def test_types_are_those_that_onnx_infers(name: str, artifact: Callable[[str], Path]) -> None:
    model = onnx.load(str(artifact(name)))
    types = element_types(model)
    inferred = {
        value.name: value.type.tensor_type.elem_type for value in infer_shapes(model).graph.value_info
    }
    assert len(inferred) > 100
    assert {name: types[name] for name in inferred} == inferred


def test_a_template_and_its_filled_graph_become_the_same() -> None:
    template = onnx.load(str(TEMPLATES / "tiny_sd15_text_encoder.onnx"))
    rng = np.random.default_rng(0)
    weights = {
        name: rng.standard_normal(shape).astype(np.float32) for name, shape in weight_shapes(template).items()
    }
    halved = to_half(template, ())
    assert weight_shapes(halved) == weight_shapes(template)
    assert fill(halved, weights) == to_half(fill(template, weights), ())


def _graph(*nodes: onnx.NodeProto, constant: float = 2.0) -> onnx.ModelProto:
    """x [1,4] FP32 to y [1,4] FP32 by `nodes`, which may read the weight "w" [4,4] and the scalar "c"."""
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in "xy"]
    scalar = numpy_helper.from_array(np.array(constant, np.float32))
    weight = numpy_helper.from_array(np.eye(4, dtype=np.float32), "w")
    before = helper.make_node("Constant", [], ["c"], value=scalar)
    graph = helper.make_graph([before, *nodes], "graph", rows[:1], rows[1:], [weight])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _types(model: onnx.ModelProto) -> dict[str, int]:
    onnx.checker.check_model(model, full_check=True)
    return element_types(model)


LAYER = (
    helper.make_node("MatMul", ["x", "w"], ["a"]),
    helper.make_node("Mul", ["a", "c"], ["b"]),
    helper.make_node("Softmax", ["b"], ["y"]),
)


def test_what_reads_weights_is_half() -> None:
    types = _types(to_half(_graph(*LAYER), ()))
    assert [types[name] for name in ("x", "w", "c", "a", "b", "y/half", "y")] == [1, 10, 10, 10, 10, 10, 1]


def test_a_named_operator_stays_single() -> None:
    types = _types(to_half(_graph(*LAYER), {"Softmax"}))
    assert [types[name] for name in ("a", "b", "b/single", "y")] == [10, 10, 1, 1]


def test_all_operators_single_stores_weights_in_half() -> None:
    types = _types(to_half(_graph(*LAYER), {ALL_OPS}))
    assert [types[name] for name in ("w", "w/single", "a", "b", "y")] == [10, 1, 1, 1, 1]


@pytest.mark.parametrize("constant", [1e5, 1e-9])
def test_what_half_cannot_hold_keeps_its_operator_single(constant: float) -> None:
    types = _types(to_half(_graph(*LAYER, constant=constant), ()))
    assert [types[name] for name in ("a", "a/single", "c", "b")] == [10, 1, 1, 1]


def test_angles_before_the_first_weight_stay_single() -> None:
    angles = (
        helper.make_node("Mul", ["x", "c"], ["turn"]),
        helper.make_node("Sin", ["turn"], ["sine"]),
        helper.make_node("MatMul", ["sine", "w"], ["y"]),
    )
    types = _types(to_half(_graph(*angles), ()))
    assert [types[name] for name in ("turn", "sine", "sine/half", "y/half")] == [1, 1, 10, 10]


def test_pixels_stay_single_until_the_first_weight(artifact: Callable[[str], Path]) -> None:
    """U2-Net's mean and deviation are numbers of ours around a published graph, and no weights of it."""
    half = to_half(onnx.load(str(artifact("u2net"))), ())
    types = _types(half)
    assert [types[name] for name in ("pixel_mean", "image_centred", "pixel_std")] == [1, 1, 1]


def test_quantized_operators_stay_whole() -> None:
    scale = numpy_helper.from_array(np.array(0.1, np.float32), "scale")
    quantized = (
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("QuantizeLinear", ["a", "scale"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["e"]),
        helper.make_node("Relu", ["e"], ["y"]),
    )
    model = _graph(*quantized)
    model.graph.initializer.append(scale)
    half = to_half(model, ())
    types = _types(half)
    assert [types[name] for name in ("a", "a/single", "d", "e", "e/half", "y/half")] == [10, 1, 1, 1, 10, 10]
    assert next(node for node in half.graph.node if "e" in node.output).input[0] == "d"


def test_a_graph_with_branches_is_refused() -> None:
    branch = helper.make_graph([], "branch", [], [])
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    with pytest.raises(BuildError, match="If"):
        to_half(_graph(node), ())
