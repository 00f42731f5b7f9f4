"""The probes that models get, and the answers that mean a model no longer serves."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import EllipsisType, SimpleNamespace
from typing import Any

import pytest
from google.protobuf import text_format
from grpc import StatusCode
from grpc.aio import AioRpcError, Metadata
from nexus_server.health import HANG_S, NETWORK_INTERVAL_S, POLL_INTERVAL_S, Prober, probe_inputs
from nexus_server.stub_watch import StubWatch
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig
from tritonclient.utils import InferenceServerException

MODELS = Path(__file__).parents[2] / "model_repository"


def config(text: str) -> ModelConfig:
    return text_format.Parse(text, ModelConfig())


def committed(name: str) -> ModelConfig:
    return config((MODELS / name / "config.pbtxt").read_text())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("lama", {"image": ("UINT8", [1, 64, 64, 3]), "mask": ("UINT8", [1, 64, 64, 1])}),
        ("u2net", {"image": ("UINT8", [1, 320, 320, 3])}),
        (
            "sam_decoder",
            {
                "embedding": ("FP32", [1, 256, 64, 64]),
                "points": ("FP32", [1, 64, 2]),
                "labels": ("FP32", [1, 64]),
                "mask_input": ("FP32", [1, 1, 256, 256]),
                "has_mask": ("FP32", [1, 1]),
            },
        ),
        ("segment", {"image": ("BYTES", [1, 1])}),
        ("cleanup", {"image": ("BYTES", [1, 1]), "mask": ("BYTES", [1, 1])}),
    ],
)
def test_a_probe_is_the_smallest_input(model: str, expected: dict[str, Any]) -> None:
    inputs = probe_inputs(committed(model))
    assert {item.name(): (item.datatype(), item.shape()) for item in inputs} == expected
    for item in inputs:
        content = item._get_content()
        assert content == bytes(len(content))  # zeros; an empty string is its length, zero


def test_every_type_has_a_probe() -> None:
    """For any model of a user; except BF16, which numpy lacks."""
    types = sorted({*DataType.DESCRIPTOR.values_by_name} - {"TYPE_INVALID", "TYPE_BF16"})
    text = "\n".join(f'input {{ name: "{name}" data_type: {name} dims: [ 2 ] }}' for name in types)
    inputs = probe_inputs(config(text))
    assert [item.name() for item in inputs] == types
    assert {item.name(): item.datatype() for item in inputs}["TYPE_INT64"] == "INT64"


CONNECTION_LOST = "lost"


class Server:
    """A client of a server whose models answer with `outcomes` in turn; `None` is an answer, ... is none, ever."""

    def __init__(self, *outcomes: InferenceServerException | EllipsisType | None) -> None:
        self.outcomes = list(outcomes) or [None]
        self.answered: Counter[str] = Counter()
        self.probed: list[str] = []
        self.counts = True

    async def infer(self, name: str, _: Any) -> None:
        self.probed.append(name)
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if outcome is ...:
            await asyncio.Event().wait()
        elif outcome:
            raise outcome
        self.answered[name] += 1

    async def stream_infer(self, requests: AsyncIterator[dict[str, Any]]) -> AsyncIterator[Any]:
        """The answers of a decoupled model: errors as text, a lost connection as gRPC's exception."""
        async for request in requests:
            try:
                await self.infer(request["model_name"], request["inputs"])
            except InferenceServerException as error:
                if error.status() == CONNECTION_LOST:
                    raise AioRpcError(
                        StatusCode.UNAVAILABLE, Metadata(), Metadata(), error.message()
                    ) from None
                yield None, InferenceServerException(error.message())

    async def get_inference_statistics(self, name: str, **_: Any) -> Any:
        if not self.counts:
            raise InferenceServerException("Deadline Exceeded", "StatusCode.DEADLINE_EXCEEDED")
        success = SimpleNamespace(count=self.answered[name])
        return SimpleNamespace(
            model_stats=[SimpleNamespace(inference_stats=SimpleNamespace(success=success))]
        )


class Watch(StubWatch):
    """Processes that use `load` seconds of CPU between two polls; records the models asked for."""

    def __init__(self, load: float = 0.0) -> None:
        super().__init__(0)
        self.load = load
        self.asked: list[set[str]] = []

    def cpu_s(self, models: set[str]) -> float:
        self.asked.append(models)
        return self.load * len(self.asked)


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait milliseconds in place of seconds."""
    wait, sleep = asyncio.wait, asyncio.sleep
    monkeypatch.setattr("asyncio.wait", lambda tasks, timeout: wait(tasks, timeout=timeout / 1000))
    monkeypatch.setattr("asyncio.sleep", lambda seconds: sleep(seconds / 1000))
    monkeypatch.setattr("nexus_server.health.NETWORK_INTERVAL_S", NETWORK_INTERVAL_S / 1000)


def failures(server: Server, watch: Watch | None = None, text: str = 'name: "lama"') -> list[str]:
    models = {"lama": config(text)}
    return asyncio.run(Prober(server, models, watch or Watch()).failures(models))


def refusal(status: str, message: str) -> InferenceServerException:
    return InferenceServerException(message, f"StatusCode.{status}")


HANG = [f"lama has neither answered nor worked for {HANG_S} s"]


def test_an_answer_is_health() -> None:
    server = Server()
    assert failures(server) == []
    assert server.probed == ["lama"]


def test_a_refusal_comes_from_a_working_model() -> None:
    assert failures(Server(refusal("INVALID_ARGUMENT", "the image is empty."))) == []


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (
            "Stub process 'lama_0' is not healthy.",
            "lama does not serve (Stub process 'lama_0' is not healthy.)",
        ),
        ("first line\nsecond line", "lama does not serve (first line)"),
    ],
)
def test_an_internal_error_is_a_failure(message: str, sentence: str) -> None:
    assert failures(Server(refusal("INTERNAL", message))) == [sentence]


def test_a_stopped_stub_is_left_to_the_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Watch()
    monkeypatch.setattr(watch, "is_stopped", lambda model: model == "lama")
    server = Server(refusal("INTERNAL", "Stub process 'lama_0' is not healthy."), None)
    assert failures(server, watch) == []  # it resumed before the watch counted it as hung
    assert server.probed == ["lama", "lama"]


def test_a_model_that_neither_answers_nor_works_is_hung() -> None:
    server, watch = Server(...), Watch()
    assert failures(server, watch) == HANG
    assert server.probed == ["lama"]
    assert len(watch.asked) == 1 + HANG_S / POLL_INTERVAL_S


def test_a_hang_is_noticed_without_statistics() -> None:
    server = Server(...)
    server.counts = False
    assert failures(server) == HANG


@pytest.mark.parametrize("load", [1.0, 0.02])
def test_a_model_that_works_is_busy(load: float) -> None:
    """For any time: here 100 s until the answer, with a whole core or with a fiftieth of one."""

    class Long(Server):
        async def get_inference_statistics(self, name: str, **_: Any) -> Any:
            self.answered[name] += len(watch.asked) == 100 / POLL_INTERVAL_S
            return await super().get_inference_statistics(name)

    watch = Watch(load * POLL_INTERVAL_S)
    assert failures(Long(...), watch) == []
    assert len(watch.asked) == 100 / POLL_INTERVAL_S


def test_a_process_that_only_wakes_now_and_then_is_hung() -> None:
    assert failures(Server(...), Watch(0.15 / HANG_S)) == HANG  # an idle tritonserver


def test_a_pipeline_works_while_its_networks_do() -> None:
    watch = Watch()
    models = {"smart_remove": committed("smart_remove")}
    asyncio.run(Prober(Server(...), models, watch).failures(models))
    networks = {"sam_encoder", "sam_decoder", "sam2_encoder", "sam2_decoder", "lama"}
    assert watch.asked[0] == {"smart_remove", *networks}


def test_a_full_queue_is_no_answer() -> None:
    full = refusal("UNAVAILABLE", "Exceeds maximum queue size")
    server = Server(full, full, None)
    assert failures(server) == []
    assert server.probed == ["lama"] * 3
    assert failures(Server(full)) == HANG


STREAM = 'name: "generative_fill" backend: "python" model_transaction_policy { decoupled: true }'


@pytest.mark.parametrize(
    "answer",
    [None, refusal("INVALID_ARGUMENT", "the image is empty."), refusal("UNAVAILABLE", "it is busy.")],
)
def test_an_answer_in_a_stream_is_health(answer: InferenceServerException | None) -> None:
    server = Server(answer)
    assert failures(server, text=STREAM) == []
    assert server.probed == ["lama"]


def test_a_dead_stub_says_so_in_a_stream() -> None:
    dead = refusal("INTERNAL", "Stub process 'lama_0' is not healthy.")
    assert failures(Server(dead), text=STREAM) == [
        "lama does not serve (Stub process 'lama_0' is not healthy.)"
    ]


def test_a_stream_without_an_answer_is_hung() -> None:
    assert failures(Server(...), text=STREAM) == HANG


def test_a_lost_connection_is_not_an_answer_of_the_model() -> None:
    """The next probe reconnects, or the supervisor finds the server dead."""
    server = Server(InferenceServerException("Socket closed", CONNECTION_LOST), None)
    assert failures(server, text=STREAM) == []
    assert server.probed == ["lama"] * 2


def test_a_model_that_answers_callers_is_not_probed() -> None:
    server = Server()
    models = {"lama": config('name: "lama"')}
    prober = Prober(server, models, Watch())

    async def checks() -> None:
        for calls in (1, 1, 0, 0):
            server.answered["lama"] += calls
            assert await prober.failures(models) == []

    asyncio.run(checks())
    assert len(server.probed) == 2


def test_a_pipeline_that_accepts_requests_is_probed_all_the_same() -> None:
    """Triton counts a request as a success when the pipeline has taken it, before it answers."""
    server = Server(...)
    server.answered["lama"] = 1
    assert failures(server, text='name: "lama" backend: "python"') == HANG
    assert server.probed == ["lama"]


def test_pipelines_are_probed_more_often_than_networks_and_some_networks_never() -> None:
    """Never: a network with a response cache, and those whose shapes only the artifact knows."""
    server = Server(*[None] * 40, refusal("INTERNAL", "gone"))
    models = {name: committed(name) for name in ("cleanup", "lama", "sam_encoder", "sdxl_unet", "sd15_unet")}
    reason = asyncio.run(Prober(server, models, Watch()).watch())
    assert reason.endswith(" does not serve (gone)")
    assert server.probed[:2] == ["cleanup", "lama"]
    assert set(server.probed) == {"cleanup", "lama"}
    # one network to six pipelines; more where the event loop wakes late
    assert 5 <= server.probed.count("lama") < server.probed.count("cleanup")
