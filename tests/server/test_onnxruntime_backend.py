"""The onnxruntime backend in Python: batches, isolation, engine and threads, on a graph that adds two inputs."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest
from nexus_ensembles.errors import is_out_of_memory

from tests.server.support.onnx_bytes import sum_model
from tests.support.pb_utils import BLS, InferenceResponse, Request, module

Make = Callable[..., Any]


class Recorder:
    """An onnxruntime session that records the options it was made with and the shapes it runs."""

    made: list[Recorder]

    def __init__(self, path: str, options: Any, providers: list[Any]) -> None:
        self.options, self.providers, self.shapes = options, providers, list[tuple[int, ...]]()
        self._session = SESSION(path, options, ["CPUExecutionProvider"])
        Recorder.made.append(self)

    def get_inputs(self) -> Any:
        return self._session.get_inputs()

    def get_modelmeta(self) -> Any:
        return self._session.get_modelmeta()

    def run(self, outputs: list[str], inputs: dict[str, npt.NDArray[Any]], options: Any) -> Any:
        self.run_options = options
        self.shapes.append(inputs["left"].shape)
        return self._session.run(outputs, inputs, options)


SESSION = ort.InferenceSession


@pytest.fixture
def utils() -> Any:
    return module(BLS())


@pytest.fixture
def make(utils: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Makes a model of the backend, on a simulated GPU if `gpu`; onnxruntime itself stays on the CPU."""
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)
    monkeypatch.delitem(sys.modules, "nexus_backends.onnxruntime.model", raising=False)
    backend = importlib.import_module("nexus_backends.onnxruntime.model")
    monkeypatch.delitem(sys.modules, "nexus_backends.onnxruntime.model")
    monkeypatch.setattr(ort, "InferenceSession", Recorder)
    monkeypatch.setattr(
        ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    Recorder.made = []

    def build(
        gpu: bool = False, file: str = "model.onnx", metadata: dict[str, str] | None = None, **config: Any
    ) -> Any:
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / file).write_bytes(sum_model(metadata or {}))
        model = backend.TritonPythonModel()
        model.initialize(
            {
                "model_config": json.dumps({"name": "sum", "output": [{"name": "total"}], **config}),
                "model_repository": str(tmp_path),
                "model_version": "1",
                "model_instance_kind": "GPU" if gpu else "CPU",
                "model_instance_device_id": "2",
            }
        )
        return model

    return build


def request(rows: int, left: int = 3, right: int = 3, base: float = 0) -> Request:
    """`rows` rows; the sum fails unless left and right have the same width."""
    ramp = np.arange(rows * left, dtype=np.float32).reshape(rows, left)
    return Request({"left": ramp + np.float32(base), "right": np.full((rows, right), 100, np.float32)})


def total(response: InferenceResponse) -> npt.NDArray[Any]:
    assert not response.has_error()
    (tensor,) = response.output_tensors()
    assert tensor.name() == "total"
    return tensor.as_numpy()


@pytest.mark.parametrize("gpu", [True, False])
def test_every_request_gets_its_own_rows_in_order(make: Make, gpu: bool) -> None:
    requests = [request(2, base=0), request(1, base=50), request(3, base=70)]
    responses = make(gpu).execute(requests)
    for sent, response in zip(requests, responses, strict=True):
        np.testing.assert_array_equal(total(response), sent.tensors["left"] + 100)


def test_int8_for_a_gpu_is_refused_on_a_cpu(make: Make) -> None:
    with pytest.raises(RuntimeError, match=r"^sum is INT8 built for a GPU; build it for this CPU: "):
        make(metadata={"nexus_export.processor": "gpu"})


def test_requests_are_concatenated_on_a_gpu(make: Make) -> None:
    make(gpu=True).execute([request(2), request(1), request(3)])
    assert Recorder.made[0].shapes == [(6, 3)]


@pytest.mark.parametrize(("word", "shapes"), [("true", [(3, 3)]), ("false", [(2, 3), (1, 3)])])
def test_requests_are_concatenated_on_a_cpu_where_the_config_says_so(
    make: Make, word: str, shapes: list[tuple[int, int]]
) -> None:
    make(parameters={"concatenate_on_cpu": {"string_value": word}}).execute([request(2), request(1)])
    assert Recorder.made[0].shapes == shapes


@pytest.mark.parametrize("gpu", [True, False])
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_bad_request_fails_alone(make: Make, utils: Any, gpu: bool, at: int) -> None:
    requests = [request(1, base=number) for number in range(3)]
    requests[at] = request(1, left=3, right=2)
    responses = make(gpu).execute(requests)
    assert [response.has_error() for response in responses] == [number == at for number in range(3)]
    error = responses[at].error()
    assert (error.code(), error.message()) == ("INTERNAL", "sum could not run on this input.")
    for number, response in enumerate(responses):
        if number != at:
            np.testing.assert_array_equal(total(response), requests[number].tensors["left"] + 100)
    assert len(utils.log) == 1
    assert "Traceback" in utils.log[0]  # for the operator


@pytest.mark.parametrize(
    "raised",
    [
        RuntimeError(
            "[ONNXRuntimeError] : 6 : /onnxruntime_src/bfc_arena.cc:359 Failed to allocate memory for requested buffer"
        ),
        RuntimeError("CUDA failure 2: out of memory ; file=/onnxruntime_src/cuda_call.cc"),
        RuntimeError("CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDNN failure 4: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("std::bad_alloc"),
        RuntimeError("bad allocation"),
        MemoryError("Unable to allocate 3.2 GiB for an array"),
    ],
)
def test_out_of_memory_is_distinguished_from_a_bad_input(
    make: Make, utils: Any, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    """So that a pipeline can fall back to a smaller network; the original message goes to the log."""
    model = make()

    def fail(*_: Any) -> Any:
        raise raised

    monkeypatch.setattr(Recorder.made[0], "run", fail)
    (response,) = model.execute([request(1)])
    error = response.error()
    assert (error.code(), error.message()) == ("UNAVAILABLE", "sum is out of memory.")
    assert str(raised) in utils.log[0]
    # the pipeline must recognise this backend's sentence and the C++ backend's, which is the raw one
    assert is_out_of_memory(error.message())
    assert isinstance(raised, MemoryError) or is_out_of_memory(str(raised))


def test_rows_that_fit_alone_are_served_alone(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(gpu=True)
    run = Recorder.made[0].run

    def cramped(outputs: list[str], inputs: dict[str, npt.NDArray[Any]], options: Any) -> Any:
        if len(inputs["left"]) > 2:
            raise RuntimeError("CUDA failure 2: out of memory")
        return run(outputs, inputs, options)

    monkeypatch.setattr(Recorder.made[0], "run", cramped)
    responses = model.execute([request(2), request(2)])
    assert [len(total(response)) for response in responses] == [2, 2]


def test_sizes_that_cannot_be_concatenated_run_apart(make: Make) -> None:
    responses = make(gpu=True).execute([request(1, 3, 3), request(1, 5, 5)])
    assert [total(response).shape for response in responses] == [(1, 3), (1, 5)]


@pytest.mark.parametrize(
    ("gpu", "providers"),
    [
        (False, ["CPUExecutionProvider"]),
        (True, [("CUDAExecutionProvider", {"device_id": 2}), "CPUExecutionProvider"]),
    ],
)
def test_the_instance_decides_the_device(make: Make, gpu: bool, providers: list[Any]) -> None:
    make(gpu)
    assert Recorder.made[0].providers == providers


def test_a_gpu_without_cuda_in_onnxruntime_runs_on_the_cpu(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CPUExecutionProvider"])
    make(gpu=True)
    assert Recorder.made[0].providers == ["CPUExecutionProvider"]


def test_a_network_yields_its_cores_before_its_threads_start(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads inherit the niceness of the one that makes them."""
    increments: list[tuple[int, int]] = []
    monkeypatch.setattr("os.nice", lambda increment: increments.append((increment, len(Recorder.made))))
    make(parameters={"niceness": {"string_value": "5"}})
    assert increments == [(5, 0)]


def test_threads_come_from_the_parameters(make: Make) -> None:
    threads = {"intra_op_thread_count": {"string_value": "3"}, "inter_op_thread_count": {"string_value": "2"}}
    make(parameters=threads)
    options = Recorder.made[0].options
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 2)


def test_all_cores_by_default(make: Make) -> None:
    make()
    assert Recorder.made[0].options.intra_op_num_threads == 0


def test_the_config_may_name_another_file(make: Make) -> None:
    model = make(file="other.onnx", default_model_filename="other.onnx")
    np.testing.assert_array_equal(total(model.execute([request(1)])[0]), [[100, 101, 102]])


def test_an_arena_shrinks_where_the_config_says_so(make: Make) -> None:
    key = "memory.enable_memory_arena_shrinkage"
    model = make(parameters={key: {"string_value": "cpu:0"}})
    np.testing.assert_array_equal(total(model.execute([request(1)])[0]), [[100, 101, 102]])
    assert Recorder.made[0].run_options.get_run_config_entry(key) == "cpu:0"
