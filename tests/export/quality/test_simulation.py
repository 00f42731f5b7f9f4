"""FP16 as a GPU computes it, on a CPU: its overflows and rounding show here, and fail the gate."""

import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from nexus_export.errors import QualityError
from nexus_export.exported import Array
from nexus_export.inference import onnx_run
from nexus_export.networks import Gate, Network, Tensor
from nexus_export.precision.fp16 import to_half
from nexus_export.quality import speed
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.pipelines import Sample
from nexus_export.quality.record import Quality
from nexus_export.quality.simulation import halves, served_run
from onnx import TensorProto, helper, numpy_helper

# Whole numbers from -4 to 4, which FP16 holds.
ROW = {"x": (np.arange(256).reshape(1, 16, 16) % 9 - 4).astype(np.float32)}
NETWORK = Network(
    "scaled",
    "scaled",
    (Tensor("x", "FP32", (16, 16)),),
    (Tensor("y", "FP32", (16, 16)),),
    1,
    Gate("psnr_db", {"fp16": 40.0}),
)


def _scaled(by: float) -> onnx.ModelProto:
    """y = x * `by` / `by`: two products with diagonal matrices, in FP16."""
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, 16]) for name in "xy"]
    weights = [
        numpy_helper.from_array(np.eye(16, dtype=np.float32) * np.float32(factor), name)
        for name, factor in (("up", by), ("down", 1 / by))
    ]
    nodes = [helper.make_node("MatMul", ["x", "up"], ["a"]), helper.make_node("MatMul", ["a", "down"], ["y"])]
    graph = helper.make_graph(nodes, "scaled", rows[:1], rows[1:], weights)
    return to_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), ())


def _written(model: onnx.ModelProto, folder: Path) -> Path:
    onnx.save(model, str(folder / "model.onnx"))
    return folder / "model.onnx"


def _judged(path: Path, monkeypatch: pytest.MonkeyPatch) -> Quality:
    def same(inputs: Mapping[str, Array]) -> dict[str, Array]:
        return {"y": inputs["x"]}  # the result of both products

    monkeypatch.setattr(Evaluator, "samples", lambda *_: [Sample(ROW)])
    return Evaluator({}, path, lambda _: same).measure(NETWORK, "fp16", path)[0]


def test_an_overflow_fails_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 4 * 60000: a CPU computes on, a GPU has infinity, and 0 times infinity is no number."""
    path = _written(_scaled(by=60000.0), tmp_path)
    np.testing.assert_allclose(onnx_run(path)(ROW)["y"], ROW["x"], rtol=0.01)
    quality = _judged(path, monkeypatch)
    assert quality.simulated
    assert not quality.passed
    assert quality.complaint() == "scaled at fp16 is not good enough (its output y is not finite)"


def test_what_fits_passes_the_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quality = _judged(_written(_scaled(by=1024.0), tmp_path), monkeypatch)
    assert (quality.passed, quality.simulated, quality.max_abs) == (True, True, 0.0)


def test_values_are_rounded_to_half(tmp_path: Path) -> None:
    run, _ = served_run(_written(_scaled(by=1.0), tmp_path))
    value = np.float32(1 + 2**-11 + 2**-12)  # FP16 has 1 and 1 + 2**-10
    assert (run({"x": np.full((1, 16, 16), value)})["y"] == 1 + 2**-10).all()


def test_weights_beside_the_graph_are_found(tmp_path: Path) -> None:
    model, path = _scaled(by=2.0), tmp_path / "model.onnx"
    onnx.save(model, str(path), save_as_external_data=True, location="model.onnx.data", size_threshold=0)
    run, simulated = served_run(path)
    assert simulated
    assert run(ROW)["y"].tolist() == ROW["x"].tolist()


def test_fp32_is_run_as_it_is(tmp_path: Path) -> None:
    model = _scaled(by=1.0)
    assert halves(model) == {"up", "down", "x/half", "a", "y/half"}
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "negated", model.graph.input, model.graph.output
    )
    plain = helper.make_model(graph, opset_imports=model.opset_import, ir_version=8)
    run, simulated = served_run(_written(plain, tmp_path))
    assert not simulated
    assert run(ROW)["y"].tolist() == (-ROW["x"]).tolist()


def test_too_little_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a graph whose inner tensor is larger than a process can address."""
    model = _scaled(by=1.0)
    shape = numpy_helper.from_array(np.array([2**23, 2**14, 16, 16], np.int64), "shape")
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["large"]),
        helper.make_node("ReduceMax", ["large"], ["y"], axes=[0, 1], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "large", model.graph.input, model.graph.output, [shape])
    path = _written(helper.make_model(graph, opset_imports=model.opset_import, ir_version=8), tmp_path)
    with pytest.raises(
        QualityError, match=r"^scaled does not fit in this machine's memory; measure it on one"
    ):
        _judged(path, monkeypatch)


@pytest.mark.parametrize(("bytes_in_turn", "most"), [(1 << 30, 2), (0, 1)])
def test_of_large_files_one_is_in_memory(
    bytes_in_turn: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / name for name in ("a.onnx", "b.onnx")]
    for file in files:
        file.write_bytes(b"graph")
    alive: set[object] = set()
    counts: list[int] = []

    class Session:
        def __init__(self, path: Path) -> None:
            alive.add(path)
            counts.append(len(alive))
            weakref.finalize(self, alive.remove, path)

        def __call__(self, _: Mapping[str, Array]) -> dict[str, Array]:
            return {}

    monkeypatch.setattr(speed, "INLINE_BYTES", bytes_in_turn)
    monkeypatch.setattr(speed, "onnx_run", Session)
    measured = speed.measure_speed(files[0], files[1], {})
    assert (measured.bytes, measured.fp32_bytes) == (5, 5)
    assert max(counts) == most
