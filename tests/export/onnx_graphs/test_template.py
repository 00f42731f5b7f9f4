"""Templates lose their weights and get them back; weights that do not fit are refused."""

import numpy as np
import onnx
import pytest
from nexus_export.errors import TemplateError
from nexus_export.onnx_graphs.template import fill, shorten_names, strip, weight_shapes
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

WEIGHTS: dict[str, NDArray[np.float32]] = {
    "layer.weight": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
    "layer.scale": np.array(0.3, np.float32),
}


def _model() -> onnx.ModelProto:
    derived = numpy_helper.from_array(np.ones(3, np.float32), "onnx::Add_5")
    nothing = numpy_helper.from_array(np.zeros(0, np.float32), "layer.unused")
    nodes = [
        helper.make_node("MatMul", ["x", "layer.weight"], ["a"]),
        helper.make_node("Mul", ["a", "layer.scale"], ["b"]),
        helper.make_node("Add", ["b", "onnx::Add_5"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])],
        [*(numpy_helper.from_array(array, name) for name, array in WEIGHTS.items()), derived, nothing],
    )
    return helper.make_model(graph, producer_name="pytorch", producer_version="2.13.0")


def _arrays(model: onnx.ModelProto) -> dict[str, NDArray[np.generic]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_strip_empties_weights_and_keeps_constants() -> None:
    template = strip(_model())
    data = {tensor.name: len(tensor.raw_data) for tensor in template.graph.initializer}
    assert data == {"layer.weight": 0, "layer.scale": 0, "onnx::Add_5": 12, "layer.unused": 0}
    assert weight_shapes(template) == {"layer.weight": (2, 3), "layer.scale": ()}


def test_fill_restores_the_model() -> None:
    model = _model()
    template = onnx.load_from_string(strip(model).SerializeToString())
    filled = fill(template, WEIGHTS)
    assert filled.graph.node == model.graph.node
    arrays = _arrays(model)
    assert _arrays(filled).keys() == arrays.keys()
    for name, array in _arrays(filled).items():
        assert array.dtype == arrays[name].dtype
        assert array.shape == arrays[name].shape
        assert np.array_equal(array, arrays[name])
    # The template itself stays empty, for the next checkpoint.
    assert weight_shapes(template) == {"layer.weight": (2, 3), "layer.scale": ()}


def test_weights_stored_in_fp16_are_cast() -> None:
    halves = {name: array.astype(np.float16) for name, array in WEIGHTS.items()}
    arrays = _arrays(fill(strip(_model()), halves))
    for name, half in halves.items():
        assert arrays[name].dtype == np.float32
        assert np.array_equal(arrays[name], half.astype(np.float32))


def test_transposed_view_is_stored_in_its_own_order() -> None:
    view = np.ascontiguousarray(WEIGHTS["layer.weight"].T).T
    arrays = _arrays(fill(strip(_model()), {**WEIGHTS, "layer.weight": view}))
    assert np.array_equal(arrays["layer.weight"], WEIGHTS["layer.weight"])


def test_short_names_keep_the_graph() -> None:
    model = _model()
    model.graph.node[0].name = "/layer/MatMul"
    short = shorten_names(model)
    wiring = [([*node.input], [*node.output], node.name) for node in short.graph.node]
    assert wiring == [
        (["x", "layer.weight"], ["0"], ""),
        (["0", "layer.scale"], ["1"], ""),
        (["1", "onnx::Add_5"], ["y"], ""),
    ]
    assert short.graph.initializer == model.graph.initializer
    assert model.graph.node[0].output == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer.scale": None}, r"1 missing \(layer.scale\), 0 surplus"),
        ({"layer.bias": np.zeros(3)}, r"0 missing, 1 surplus \(layer.bias\)"),
        ({"layer.weight": np.zeros((3, 2))}, r"layer.weight has the shape \[3, 2\] .* wants \[2, 3\]"),
    ],
)
def test_weights_of_another_network_are_refused(
    change: dict[str, NDArray[np.generic] | None], message: str
) -> None:
    weights = {name: array for name, array in {**WEIGHTS, **change}.items() if array is not None}
    with pytest.raises(TemplateError, match=message):
        fill(strip(_model()), weights)
