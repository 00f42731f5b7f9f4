"""Requests into calls and errors into responses, with a stand-in for Triton's Python module."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nexus_ensembles.errors import BadInput, Cancelled, NetworkFailed, NotBuilt, OutOfMemory, Overloaded

from tests.support.pb_utils import BLS, InferenceResponse, MetricFamily, Request, Tensor, TritonError

WAIT_S = 10.0  # until a response that never comes fails a test
CONFIG: dict[str, Any] = {
    "name": "doubler",
    "parameters": {
        "networks": {"string_value": "lama u2net"},
        "optional_networks": {"string_value": "sam2_encoder"},
    },
    "input": [
        {"name": "image", "data_type": "TYPE_STRING", "dims": ["1"]},
        {"name": "points", "data_type": "TYPE_FP32", "dims": ["-1", "2"], "optional": True},
        {"name": "dilate", "data_type": "TYPE_INT32", "dims": ["1"], "optional": True},
        {"name": "model", "data_type": "TYPE_STRING", "dims": ["1"], "optional": True},
    ],
    "output": [
        {"name": "image", "data_type": "TYPE_STRING", "dims": ["1"]},
        {"name": "score", "data_type": "TYPE_FP32", "dims": ["1"]},
    ],
}
IMAGE = np.array([[b"bytes"]], np.object_)


@pytest.fixture
def unary(adapter: Callable[[str], Any]) -> Any:
    """nexus_ensembles.triton.unary, imported beside the stand-in."""
    return adapter("unary")


def serve(
    unary: Any, pipeline: Callable[..., Any], *requests: Request, config: dict[str, Any] = CONFIG
) -> list[InferenceResponse]:
    """The response to each of `requests` of a model whose pipeline is `pipeline`."""
    model = start(unary, pipeline, config)
    assert model.execute(list(requests)) is None
    responses = [answer(request) for request in requests]
    model.finalize()
    return responses


def start(unary: Any, pipeline: Callable[..., Any], config: dict[str, Any] = CONFIG) -> Any:
    model = type("TritonPythonModel", (unary.UnaryPipeline,), {"run": pipeline})()
    arguments = {
        "model_config": json.dumps(config),
        "model_repository": "/models/doubler",
        "model_version": "1",
    }
    model.initialize(arguments)
    return model


def answer(request: Request) -> InferenceResponse:
    """The one response to `request`, flagged as the last."""
    assert request.sender.ended.wait(WAIT_S), "no response"
    ((response, _),) = request.sender.sent
    return response


def error(response: InferenceResponse) -> tuple[str, str]:
    found = response.error()
    assert found is not None
    return found.code(), found.message()


def test_tensors_become_plain_values_and_arrays_and_back(unary: Any) -> None:
    seen = {}

    async def pipeline(_networks: Any, **inputs: Any) -> dict[str, Any]:
        seen.update(inputs)
        return {"image": inputs["image"] * 2, "score": 0.5}

    points = np.array([[[1, 2], [3, 4]]], np.float32)
    (response,) = serve(
        unary,
        pipeline,
        Request(
            {
                "image": IMAGE,
                "points": points,
                "dilate": np.array([[7]]),
                "model": np.array([["Bär".encode()]], np.object_),
            }
        ),
    )
    assert (seen["image"], seen["dilate"], seen["model"]) == (b"bytes", 7, "Bär")
    np.testing.assert_array_equal(seen["points"], points[0])
    outputs = {tensor.name(): tensor.as_numpy() for tensor in response.output_tensors()}
    assert outputs["image"].tolist() == [[b"bytesbytes"]]
    assert outputs["score"].dtype == np.float32
    assert outputs["score"].tolist() == [[0.5]]


@pytest.mark.parametrize(
    ("tensors", "sentence"),
    [
        ({}, "image is missing."),
        ({"points": np.zeros((1, 1, 2), np.float32)}, "image is missing."),
        ({"image": np.repeat(IMAGE, 2, 0)}, "image holds 2 items; send one image a request."),
        (
            {"image": IMAGE, "model": np.array([[b"\xff"]], np.object_)},
            "model is not text in UTF-8.",
        ),
    ],
)
def test_requests_that_no_pipeline_can_take(unary: Any, tensors: dict[str, Any], sentence: str) -> None:
    async def pipeline(_networks: Any, **_: Any) -> dict[str, Any]:
        raise AssertionError("reached")

    (response,) = serve(unary, pipeline, Request(tensors))
    assert error(response) == ("INVALID_ARG", sentence)


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (BadInput("the mask is empty."), ("INVALID_ARG", "the mask is empty.")),
        (Overloaded("lama is full."), ("UNAVAILABLE", "lama is full.")),
        (Cancelled("gone."), ("CANCELLED", "gone.")),
        (NotBuilt("sam2 is not built."), ("INVALID_ARG", "sam2 is not built.")),
        (OutOfMemory("out of memory: no."), ("UNAVAILABLE", "out of memory: no.")),
        (NetworkFailed("lama failed."), ("INTERNAL", "lama failed.")),
        (
            KeyError("/secret/path.py"),
            ("INTERNAL", "doubler failed; the server's log says why."),
        ),
    ],
)
def test_each_request_fails_alone_and_plainly(
    unary: Any, utils: Any, raised: Exception, expected: tuple[str, str]
) -> None:
    async def pipeline(_networks: Any, image: bytes) -> dict[str, Any]:
        if image == b"bad":
            raise raised
        return {"image": image, "score": 1.0}

    good, bad = Request({"image": IMAGE}), Request({"image": np.array([[b"bad"]], np.object_)})
    responses = serve(unary, pipeline, good, bad, Request({"image": IMAGE}))
    assert [response.has_error() for response in responses] == [False, True, False]
    assert error(responses[1]) == expected
    # only unexpected errors are logged, with their stack
    logged = [line for line in utils.log if "/secret/path.py" in line and "Traceback" in line]
    assert len(logged) == len(utils.log) == (1 if isinstance(raised, KeyError) else 0)


def test_requests_run_at_the_same_time(unary: Any) -> None:
    waiting = []

    async def pipeline(_networks: Any, image: bytes) -> dict[str, Any]:
        waiting.append(image)
        while len(waiting) < 8:  # until all are here
            await asyncio.sleep(0)
        return {"image": image, "score": 1.0}

    assert len(serve(unary, pipeline, *(Request({"image": IMAGE}) for _ in range(8)))) == 8


async def calling_lama(networks: Any, image: bytes) -> dict[str, Any]:
    outputs = await networks.run("lama", image=np.ones((2, 3), np.uint8))
    return {"image": image, "score": outputs["filled"].sum()}


def test_a_network_gets_and_gives_a_batch_of_one(unary: Any, bls: BLS) -> None:
    bls.response = InferenceResponse([Tensor("filled", np.full((1, 4), 7))])
    (response,) = serve(unary, calling_lama, Request({"image": IMAGE}))
    assert response.output_tensors()[1].as_numpy().tolist() == [[28]]
    ((name, inputs),) = bls.calls
    assert name == "lama"
    assert inputs["image"].shape == (1, 2, 3)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("Exceeds maximum queue size", "UNAVAILABLE"),
        ("Request timeout expired", "UNAVAILABLE"),
        ("Model lama is not ready.", "UNAVAILABLE"),
        ("Stub process 'lama_0' is not healthy.", "UNAVAILABLE"),
        ("[ONNXRuntimeError] : 1 : FAIL : /models/lama/1/model.onnx", "INTERNAL"),
    ],
)
def test_a_network_s_error_stays_in_the_log(
    unary: Any, utils: Any, bls: BLS, message: str, code: str
) -> None:
    bls.response = InferenceResponse(error=TritonError(message))
    (response,) = serve(unary, calling_lama, Request({"image": IMAGE}))
    found, sentence = error(response)
    assert found == code
    assert message not in sentence
    assert sentence.startswith("lama ")
    assert utils.log == [f"lama: {message}"]


def test_a_network_that_answers_nothing_is_worth_another_try(unary: Any, bls: BLS) -> None:
    bls.response = InferenceResponse([])
    (response,) = serve(unary, calling_lama, Request({"image": IMAGE}))
    assert error(response) == ("UNAVAILABLE", "lama cannot take the request now; try again.")


def test_an_optional_network_is_called_where_the_config_lists_it(unary: Any, bls: BLS) -> None:
    """nexus-server drops the list whose networks are not built."""

    async def pipeline(networks: Any, image: bytes) -> dict[str, Any]:
        return {"image": image, "score": (await networks.run(image.decode()))["filled"].sum()}

    bls.response = InferenceResponse([Tensor("filled", np.full((1, 4), 7))])
    requests = [
        Request({"image": np.array([[name]], np.object_)}) for name in (b"sam2_encoder", b"sam2_decoder")
    ]
    listed, other = serve(unary, pipeline, *requests)
    assert not listed.has_error()
    assert error(other) == ("INVALID_ARG", "sam2_decoder is not built on this server.")
    assert [name for name, _ in bls.calls] == ["sam2_encoder"]


def test_a_config_that_lists_no_networks_leaves_all_to_the_server(unary: Any, bls: BLS) -> None:
    bls.response = InferenceResponse([Tensor("filled", np.full((1, 4), 7))])
    (response,) = serve(unary, calling_lama, Request({"image": IMAGE}), config={**CONFIG, "parameters": {}})
    assert not response.has_error()
    assert [name for name, _ in bls.calls] == ["lama"]


def test_nothing_is_called_for_a_caller_who_has_gone(unary: Any, bls: BLS) -> None:
    (response,) = serve(unary, calling_lama, Request({"image": IMAGE}, cancelled=True))
    assert error(response)[0] == "CANCELLED"
    assert bls.calls == []


def test_each_request_answers_as_soon_as_it_is_done(unary: Any) -> None:
    """Also where they came in one execution."""
    gate = threading.Event()

    async def pipeline(_networks: Any, image: bytes) -> dict[str, Any]:
        if image == b"slow":
            await asyncio.to_thread(gate.wait, WAIT_S)
        return {"image": image, "score": 1.0}

    model = start(unary, pipeline)
    slow, quick = Request({"image": np.array([[b"slow"]], np.object_)}), Request({"image": IMAGE})
    model.execute([slow, quick])
    assert not answer(quick).has_error()
    assert not slow.sender.sent
    in_flight = MetricFamily.made["nexus_requests_in_flight"].metrics
    gate.set()
    assert not answer(slow).has_error()
    model.finalize()
    assert in_flight == {("doubler",): 0}


def limited(**parameters: str) -> dict[str, Any]:
    """CONFIG with parameters of its own."""
    return {
        **CONFIG,
        "parameters": {
            **CONFIG["parameters"],
            **{key: {"string_value": value} for key, value in parameters.items()},
        },
    }


def test_a_request_waits_for_its_turn_is_refused_or_has_gone(unary: Any) -> None:
    """The bounds are the config's, the time is the request's."""
    gate = threading.Event()
    begun: list[bytes] = []

    async def pipeline(_networks: Any, image: bytes) -> dict[str, Any]:
        begun.append(image)
        await asyncio.to_thread(gate.wait, WAIT_S)
        return {"image": image, "score": 1.0}

    model = start(unary, pipeline, limited(max_in_flight="4", max_at_work="1"))
    working, waiting, gone = (Request({"image": IMAGE}) for _ in range(3))
    hopeless = Request({"image": IMAGE}, timeout_us=10_000)
    late = Request({"image": IMAGE})
    model.execute([working, hopeless, waiting, gone, late])
    assert error(answer(late)) == ("UNAVAILABLE", "doubler is busy with 4 requests; try again.")
    assert error(answer(hopeless)) == (
        "UNAVAILABLE",
        "doubler is busy: no turn came within 0.01 s; try again.",
    )
    gone.cancelled = True
    gate.set()
    assert not answer(working).has_error()
    assert not answer(waiting).has_error()
    assert error(answer(gone))[0] == "CANCELLED"
    model.finalize()
    assert len(begun) == 2


class Held:
    """A network that answers `held` calls only when all of them are under way."""

    def __init__(self, bls: BLS, held: int) -> None:
        self._bls, self._held = bls, held
        self.calls: list[str] = []
        self.ended = asyncio.Event()

    async def __call__(self, network: str) -> InferenceResponse:
        self.calls.append(network)
        if len(self.calls) >= self._held:
            self.ended.set()
        await self.ended.wait()
        return self._bls.response


def test_equal_calls_of_a_shared_network_that_meet_are_made_once(
    unary: Any, utils: Any, bls: BLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their content: three requests on one photo, one on another, and one again when the first have ended.

    The other photo comes last, because the network answers once it has been called for both.
    """
    network = hold(utils, bls, monkeypatch, 2)
    bls.response = InferenceResponse([Tensor("filled", np.full((1, 4), 7))])
    photos = [b"1", b"1", b"1", b"2"]
    requests = [Request({"image": np.array([[photo]], np.object_)}) for photo in photos]
    again = Request({"image": np.array([[b"1"]], np.object_)})
    model = start(unary, filling, limited(shared_networks="lama"))
    model.execute(requests)
    assert [answer(request).output_tensors()[1].as_numpy().item() for request in requests] == [28] * 4
    assert network.calls == ["lama"] * 2
    model.execute([again])
    assert not answer(again).has_error()
    model.finalize()
    assert network.calls == ["lama"] * 3


def test_a_call_that_fails_fails_all_that_share_it(
    unary: Any, utils: Any, bls: BLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = hold(utils, bls, monkeypatch, 2)
    bls.response = InferenceResponse(error=TritonError("Model lama is not ready."))
    requests = [Request({"image": np.array([[photo]], np.object_)}) for photo in (b"1", b"1", b"2")]
    responses = serve(unary, filling, *requests, config=limited(shared_networks="lama"))
    assert [error(response)[0] for response in responses] == ["UNAVAILABLE"] * 3
    assert network.calls == ["lama"] * 2


def test_calls_of_other_networks_are_all_made(unary: Any, bls: BLS) -> None:
    bls.response = InferenceResponse([Tensor("filled", np.full((1, 4), 7))])
    requests = [Request({"image": np.array([[b"1"]], np.object_)}) for _ in range(3)]
    serve(unary, filling, *requests, config=limited(shared_networks="u2net"))
    assert len(bls.calls) == 3


def test_a_probe_waits_for_the_calls_under_way_alone(
    unary: Any, utils: Any, bls: BLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And for no place: a pipeline that is full serves. While a network hangs, it gets no answer."""
    network = hold(utils, bls, monkeypatch, 2)
    bls.response = InferenceResponse([Tensor("filled", np.full((1, 4), 7))])

    async def pipeline(networks: Any, image: bytes) -> dict[str, Any]:
        if not image:
            raise BadInput("the image is empty.")
        return await filling(networks, image)

    model = start(unary, pipeline, limited(max_in_flight="1"))
    request, probe, late = (
        Request({"image": np.array([[image]], np.object_)}) for image in (b"1", b"", b"1")
    )
    model.execute([request])
    wait_until(lambda: bool(network.calls))
    model.execute([probe, late])
    assert error(answer(late))[0] == "UNAVAILABLE"
    assert not probe.sender.ended.wait(0.1)
    model._loop.call_soon_threadsafe(network.ended.set)
    assert error(answer(probe)) == ("INVALID_ARG", "the image is empty.")
    assert not answer(request).has_error()
    model.finalize()


async def filling(networks: Any, image: bytes) -> dict[str, Any]:
    outputs = await networks.run("lama", image=np.full((20, 3), int(image), np.uint8))
    return {"image": image, "score": outputs["filled"].sum()}


def hold(utils: Any, bls: BLS, monkeypatch: pytest.MonkeyPatch, held: int) -> Held:
    network = Held(bls, held)

    def call(model_name: str, **_: Any) -> Any:
        return types.SimpleNamespace(async_exec=lambda: network(model_name))

    monkeypatch.setattr(utils, "InferenceRequest", call)
    return network


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_requests_of_one_execution_may_call_networks_more_or_less_often(unary: Any, bls: BLS) -> None:
    """None hangs on another that has ended, failed or has more to do."""
    bls.response = InferenceResponse([Tensor("filled", np.full((1, 4), 7))])

    async def pipeline(networks: Any, image: bytes) -> dict[str, Any]:
        for _ in range(int(image)):
            await networks.run("lama", image=np.ones((2, 3), np.uint8))
        return {"image": image, "score": 1.0}

    requests = [
        Request({"image": np.array([[calls]], np.object_)}) for calls in (b"2", b"0", b"none", b"5", b"1")
    ]
    responses = serve(unary, pipeline, *requests)
    assert [response.has_error() for response in responses] == [False, False, True, False, False]
    assert len(bls.calls) == 2 + 5 + 1
