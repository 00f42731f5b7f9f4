"""Requests to streams of responses, with a stand-in for Triton's Python module and for the pipeline."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import json_format, text_format
from nexus_ensembles.errors import BadInput, Cancelled, NetworkFailed, NotBuilt, OutOfMemory, Overloaded
from tritonclient.grpc.model_config_pb2 import ModelConfig

from tests.support.pb_utils import (
    BLS,
    FINAL,
    InferenceResponse,
    MetricFamily,
    Request,
    Tensor,
    TritonError,
)

CONFIG = Path(__file__).parents[3] / "model_repository/generative_fill/config.pbtxt"
LIMIT = 16
WAIT_S = 10.0  # until a response that never comes fails a test


@pytest.fixture
def stream(adapter: Callable[[str], Any]) -> Any:
    """nexus_ensembles.triton.streaming, imported beside the stand-in."""
    return adapter("streaming")


class Fill:
    """A pipeline of `steps` calls of a network, whose result is its prompt backwards."""

    breaker_open: Mapping[str, bool] = {"sdxl": False, "sd15": False}

    def __init__(self, stream: Any, raised: Exception | None) -> None:
        self._stream, self._raised = stream, raised
        self.loaded: list[tuple[Path, Mapping[str, str]]] = []
        self.seen: list[dict[str, Any]] = []
        self.closed: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()

    def load(self, folder: Path, parameters: Mapping[str, str]) -> Fill:
        self.loaded.append((folder, parameters))
        return self

    async def run(
        self, networks: Any, image: bytes, mask: bytes, prompt: str, store: Any, steps: int = 3, **other: Any
    ) -> AsyncGenerator[Any, None]:
        assert store.held_bytes == 0  # the config bounds one
        self.seen.append({"image": image, "mask": mask, "prompt": prompt, **other})
        step = 0
        try:
            for step in range(1, steps + 1):
                await self.gate.wait()
                await networks.run("sdxl_unet", sample=np.zeros((9, 8, 8), np.float32))
                yield self._stream.Progress(step, steps, b"\xff\xd8jpeg" if step == 2 else None)
                if self._raised:
                    raise self._raised
            yield self._stream.Result(prompt[::-1].encode(), 7, "sdxl", {"total": 0.5}, ("a notice.",))
        finally:
            self.closed.append(step)


Serve = Callable[..., list[list[InferenceResponse]]]


class Model:
    """A model.py over the committed config, and its pipeline."""

    def __init__(self, stream: Any, raised: Exception | None = None) -> None:
        self.fill = Fill(stream, raised)
        self.model = type("TritonPythonModel", (stream.StreamingPipeline,), {"pipeline": self.fill})()
        config = json_format.MessageToDict(
            text_format.Parse(CONFIG.read_text(), ModelConfig()), preserving_proto_field_name=True
        )
        arguments = {
            "model_config": json.dumps(config),
            "model_repository": "/models/fill",
            "model_version": "1",
        }
        self.model.initialize(arguments)

    def __call__(self, *requests: Request) -> list[list[InferenceResponse]]:
        """Every response to each of `requests`, which arrive one an execution; the last alone is flagged."""
        for request in requests:
            assert self.model.execute([request]) is None
        for request in requests:
            assert request.sender.ended.wait(WAIT_S), "no last response"
            assert [flags for _, flags in request.sender.sent][:-1] == [0] * (len(request.sender.sent) - 1)
        self.model.finalize()
        return [[response for response, _ in request.sender.sent] for request in requests]


def request(**values: Any) -> Request:
    """A request of strings and numbers; image, mask and prompt are there unless None."""
    values = {"image": b"photo", "mask": b"mask", "prompt": b"a cat"} | values
    return Request(
        {name: np.array([[value]], np.object_) for name, value in values.items() if value is not None}
    )


def values(response: InferenceResponse) -> dict[str, Any]:
    assert not response.has_error(), response.error()
    return {tensor.name(): tensor.as_numpy().item() for tensor in response.output_tensors()}


def error(response: InferenceResponse) -> tuple[str, str]:
    found = response.error()
    assert found is not None
    return found.code(), found.message()


def test_a_group_of_calls_is_a_batch_of_the_networks() -> None:
    """The configs hold the one number in two places."""

    def config(name: str) -> ModelConfig:
        return text_format.Parse((CONFIG.parents[1] / name / "config.pbtxt").read_text(), ModelConfig())

    parameters = config("generative_fill").parameters
    networks = parameters["loop_networks"].string_value.split()
    assert networks == ["sdxl_unet", "sd15_unet"]
    for network in networks:
        assert str(config(network).max_batch_size) == parameters["batch_rows"].string_value


@pytest.fixture(autouse=True)
def answering(bls: BLS) -> None:
    bls.response = InferenceResponse([Tensor("noise", np.zeros((1, 4, 8, 8), np.float32))])


def test_without_progress_there_is_one_response(stream: Any) -> None:
    model = Model(stream)
    ((only,),) = model(request())
    assert values(only) == {
        **{"image": b"tac a", "seed": 7, "model": "sdxl"},
        **{"timings": '{"total": 0.5}', "notices": '["a notice."]'},
    }
    assert {tensor.name(): tensor.as_numpy().shape for tensor in only.output_tensors()}["image"] == (1, 1)


@pytest.mark.parametrize("asked", [{"progress": True}, {"preview_every": 2}])
def test_progress_is_a_response_a_step(stream: Any, asked: dict[str, Any]) -> None:
    (responses,) = Model(stream)(request(**asked))
    steps = [values(response) for response in responses[:-1]]
    assert [(step["step"], step["total"]) for step in steps] == [(1, 3), (2, 3), (3, 3)]
    assert [step.get("preview") for step in steps] == [None, b"\xff\xd8jpeg", None]
    assert values(responses[-1])["image"] == b"tac a"


def test_strings_become_text_and_files_stay_bytes(stream: Any) -> None:
    model = Model(stream)
    model(
        request(prompt="ein Bär".encode(), image=b"\xff\xd8", scheduler=b"ddim", seed=2**40, progress=False)
    )
    assert model.fill.seen == [
        {"image": b"\xff\xd8", "mask": b"mask", "prompt": "ein Bär", "scheduler": "ddim", "seed": 2**40}
    ]


def test_the_pipeline_is_loaded_from_the_version_folder(stream: Any) -> None:
    ((folder, parameters),) = Model(stream).fill.loaded
    assert folder == Path("/models/fill/1")
    assert parameters["fallback_networks"].split()[0] == "sd15_text_encoder"


def url(data: bytes) -> bytes:
    return b"data:image/png;base64," + base64.b64encode(data)


def test_a_data_url_is_answered_with_data_urls(stream: Any) -> None:
    model = Model(stream)
    (responses,) = model(request(image=url(b"photo"), preview_every=2))
    assert model.fill.seen[0]["image"] == b"photo"
    assert values(responses[1])["preview"] == b"data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8jpeg")
    assert values(responses[-1])["image"] == url(b"tac a")


def test_bytes_are_answered_with_bytes_whatever_the_mask_is(stream: Any) -> None:
    model = Model(stream)
    ((only,),) = model(request(mask=url(b"mask"), prompt=b"data:,x"))
    assert (model.fill.seen[0]["mask"], model.fill.seen[0]["prompt"]) == (b"mask", "data:,x")
    assert values(only)["image"] == b"x,:atad"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"image": None}, "image is missing."),
        ({"prompt": b"\xff"}, "prompt is not text in UTF-8."),
        ({"image": b"data:image/png;base64,!"}, "the image is a data URL whose base64 is damaged."),
    ],
)
def test_what_no_pipeline_can_take(stream: Any, asked: dict[str, Any], sentence: str) -> None:
    model = Model(stream)
    ((only,),) = model(request(**asked))
    assert error(only) == ("INVALID_ARG", sentence)
    assert model.fill.seen == []


@pytest.mark.parametrize(
    ("raised", "expected", "outcome"),
    [
        (BadInput("the mask is empty."), ("INVALID_ARG", "the mask is empty."), "rejected"),
        (Overloaded("it is full."), ("UNAVAILABLE", "it is full."), "overloaded"),
        (OutOfMemory("out of memory: no."), ("UNAVAILABLE", "out of memory: no."), "out_of_memory"),
        (Cancelled("gone."), ("CANCELLED", "gone."), "cancelled"),
        (NotBuilt("it is not built."), ("INVALID_ARG", "it is not built."), "rejected"),
        (NetworkFailed("it failed."), ("INTERNAL", "it failed."), "failed"),
        (
            KeyError("/secret/path.py"),
            ("INTERNAL", "generative_fill failed; the server's log says why."),
            "failed",
        ),
    ],
)
def test_an_error_is_the_last_response_and_is_counted(
    stream: Any,
    utils: Any,
    raised: Exception,
    expected: tuple[str, str],
    outcome: str,
) -> None:
    (responses,) = Model(stream, raised)(request(progress=True))
    assert values(responses[0])["step"] == 1
    assert error(responses[1]) == expected
    assert len(responses) == 2
    counted = MetricFamily.made["nexus_fills_total"].metrics
    assert {labels: count for labels, count in counted.items() if count} == {("none", outcome): 1}
    assert len(utils.log) == ("secret" in str(raised))


def test_a_cancelled_request_calls_no_network_again(
    stream: Any, bls: BLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two steps: the generator ends where it is, and the request gets its last response."""
    model = Model(stream)
    gone = request(steps=50, progress=True)
    send = gone.sender.send

    def leave_after_two(response: InferenceResponse, flags: int = 0) -> None:
        send(response, flags)
        gone.cancelled = len(gone.sender.sent) >= 2

    monkeypatch.setattr(gone.sender, "send", leave_after_two)
    (responses,) = model(gone)
    assert error(responses[-1])[0] == "CANCELLED"
    assert len(bls.calls) == 2
    assert model.fill.closed == [3]


def test_fills_run_at_the_same_time_up_to_the_limit(stream: Any) -> None:
    """One more is refused at once, while the others are under way, and frees no place."""
    model = Model(stream)
    model.fill.gate.clear()
    running = [request() for _ in range(LIMIT)]
    for each in running:
        model.model.execute([each])
    late = request()
    model.model.execute([late])
    assert late.sender.ended.wait(WAIT_S)
    assert error(late.sender.sent[0][0]) == (
        "UNAVAILABLE",
        f"generative_fill is busy with {LIMIT} requests; try again.",
    )
    assert not any(each.sender.sent for each in running)
    in_flight = MetricFamily.made["nexus_requests_in_flight"].metrics
    assert in_flight["generative_fill",] in (LIMIT, LIMIT + 1)  # the refused one may not have left yet
    model.model._loop.call_soon_threadsafe(model.fill.gate.set)
    for each in running:
        assert each.sender.ended.wait(WAIT_S)
    ((after,),) = model(request())
    assert values(after)["model"] == "sdxl"
    assert MetricFamily.made["nexus_fills_total"].metrics["sdxl", "ok"] == LIMIT + 1
    assert in_flight["generative_fill",] == 0


def test_a_network_out_of_memory_is_counted(stream: Any, bls: BLS, utils: Any) -> None:
    bls.response = InferenceResponse(error=TritonError("CUDA failure 2: out of memory ; file=/cuda_call.cc"))
    model = Model(stream)
    model.fill.breaker_open = {"sdxl": True, "sd15": False}
    ((only,),) = model(request())
    assert error(only) == ("UNAVAILABLE", "out of memory: sdxl_unet has no room for the request.")
    counted = MetricFamily.made["nexus_network_out_of_memory_total"].metrics
    assert {labels: count for labels, count in counted.items() if count} == {("sdxl_unet",): 1}
    assert MetricFamily.made["nexus_fill_tier_left_out"].metrics == {("sdxl",): 1, ("sd15",): 0}
    assert len(utils.log) == 1


def test_the_flag_is_sent_with_the_last_response(stream: Any) -> None:
    """An empty response with the flag alone would be a second answer to HTTP's generate."""
    sent = request()
    Model(stream)(sent)
    assert [flags for _, flags in sent.sender.sent] == [FINAL]


def test_a_probe_waits_for_the_calls_under_way_and_is_no_fill(
    stream: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Model(stream)
    loop, probe = model.model._loop, request(image=b"")
    call = asyncio.run_coroutine_threadsafe(_future(), loop).result(WAIT_S)
    model.model._calls._under_way[call] = "sdxl_unet", {}
    monkeypatch.setattr(model.fill, "_raised", BadInput("the image is empty."))
    model.model.execute([probe])
    assert not probe.sender.ended.wait(0.1)
    loop.call_soon_threadsafe(call.set_result, None)
    assert probe.sender.ended.wait(WAIT_S)
    assert not any(MetricFamily.made["nexus_fills_total"].metrics.values())
    model.model.finalize()


async def _future() -> asyncio.Future[None]:
    return asyncio.get_running_loop().create_future()
