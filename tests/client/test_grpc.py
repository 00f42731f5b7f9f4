"""Both transports over a real gRPC server on loopback, with the faults of a real Triton injected."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
from nexus_client import (
    PIPELINES,
    AsyncClient,
    Cancelled,
    Client,
    DeadlineExceeded,
    InvalidInput,
    NexusError,
    NotDeployed,
    RetryPolicy,
    ServerError,
    Status,
    Unavailable,
)

from tests.client.support.fake_triton import FakeTriton

IMAGE = np.zeros((30, 40, 3), np.uint8)
QUICK = RetryPolicy(initial=0.02, maximum=0.1)

Run = Callable[..., Any]


def blocking(url: str, method: str, *args: Any, timeout: float = 10.0, **options: Any) -> Any:
    with Client(url, retries=QUICK) as client:
        return getattr(client, method)(*args, timeout=timeout, **options)


def asynchronous(url: str, method: str, *args: Any, timeout: float = 10.0, **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncClient(url, retries=QUICK) as client:
            return await getattr(client, method)(*args, timeout=timeout, **options)

    return asyncio.run(main())


@pytest.fixture(params=[blocking, asynchronous])
def run(request: pytest.FixtureRequest) -> Run:
    function: Run = request.param
    return function


def assert_ours_alone(error: BaseException | None) -> None:
    """Neither the error nor its causes are, or hold, objects of gRPC or tritonclient."""
    while error is not None:
        assert type(error).__module__ == "nexus_client.exceptions"
        assert not any(type(value).__module__.startswith(("grpc", "tritonclient")) for value in error.args)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def test_an_answer_crosses_the_wire(run: Run, triton: FakeTriton) -> None:
    found = run(triton.url, "segment", IMAGE, [(1, 2)])
    assert found.mask.shape == (30, 40)
    assert found.mask.sum() == 600  # the left half
    assert found.score == 0.875


def test_the_tensors_on_the_wire(run: Run, triton: FakeTriton) -> None:
    run(triton.url, "segment", IMAGE, box=(1, 2, 3, 4))
    (request,) = triton.requests
    assert request.model_name == "segment"
    sent = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in request.inputs}
    assert sent == {
        "image": ("BYTES", [1, 1]),
        "points": ("FP32", [1, 0, 2]),
        "labels": ("INT32", [1, 0]),
        "box": ("FP32", [1, 4]),
        "min_area": ("INT32", [1, 1]),
        "model": ("BYTES", [1, 1]),
    }
    # One content for each tensor, the empty ones too, or the server would match contents to the wrong tensors.
    assert [len(content) for content in request.raw_input_contents][1:] == [0, 0, 16, 4, 4]


@pytest.mark.parametrize(
    ("code", "message", "expected", "sentence"),
    [
        ("INVALID_ARGUMENT", "the mask is empty", InvalidInput, "the mask is empty"),
        ("INTERNAL", "out of luck", ServerError, r"the server failed: out of luck \(INTERNAL\)"),
        ("UNIMPLEMENTED", "no such method", ServerError, "UNIMPLEMENTED"),
        ("RESOURCE_EXHAUSTED", "too large", ServerError, "too large"),
        ("CANCELLED", "", Cancelled, "the call was cancelled"),
        ("DEADLINE_EXCEEDED", "", DeadlineExceeded, "no answer to 'cleanup' within 10 s"),
    ],
)
def test_codes_become_our_exceptions(
    run: Run, triton: FakeTriton, code: str, message: str, expected: type[NexusError], sentence: str
) -> None:
    triton.faults = [(grpc.StatusCode[code], message)]
    with pytest.raises(expected, match=sentence) as caught:
        run(triton.url, "cleanup", IMAGE, IMAGE)
    assert_ours_alone(caught.value)
    assert len(triton.requests) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "UNAVAILABLE",
            "Server is stopping, scheduler for model has stopped accepting new inference requests",
        ),
        ("UNAVAILABLE", "[request id: <id_unknown>] Exceeds maximum queue size"),
        (
            "INTERNAL",
            "Failed to process the request(s) for model 'cleanup_0_0', message: "
            "Stub process 'cleanup_0_0' is not healthy.",
        ),
        ("NOT_FOUND", "Request for unknown model: 'cleanup' is not found"),
    ],
    ids=["stopping", "queue full", "stub killed", "not found yet"],
)
def test_passing_faults_are_retried(run: Run, triton: FakeTriton, code: str, message: str) -> None:
    triton.faults = [(grpc.StatusCode[code], message)] * 3
    assert run(triton.url, "cleanup", IMAGE, IMAGE).size == (40, 30)
    assert len(triton.requests) == 4


def test_not_deployed(run: Run, triton: FakeTriton) -> None:
    triton.models.remove("cleanup")
    triton.faults = [(grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'cleanup' is not found")]
    with pytest.raises(NotDeployed, match="does not serve 'cleanup'") as caught:
        run(triton.url, "cleanup", IMAGE, IMAGE)
    assert_ours_alone(caught.value)
    assert len(triton.requests) == 1


def test_connection_refused(run: Run, triton: FakeTriton) -> None:
    triton.stop()
    with pytest.raises(Unavailable, match=r"tries in \d\.\d s\): connection refused") as caught:
        run(triton.url, "cleanup", IMAGE, IMAGE, timeout=2.0)
    assert caught.value.tries > 1
    assert caught.value.seconds <= 2.0
    assert_ours_alone(caught.value)


def test_connection_refused_then_up(run: Run, triton: FakeTriton) -> None:
    triton.stop()
    starter = threading.Timer(0.5, triton.start)
    starter.start()
    # Within 10 s: 0.5 s down, at most 1 s until gRPC connects again, at most 0.1 s of wait.
    assert run(triton.url, "cleanup", IMAGE, IMAGE).size == (40, 30)
    starter.join()


def test_a_server_killed_during_the_call(run: Run, triton: FakeTriton) -> None:
    triton.delay_seconds = 0.6

    def restart() -> None:
        time.sleep(0.3)
        triton.stop()
        triton.delay_seconds = 0.0
        time.sleep(0.3)
        triton.start()

    restarter = threading.Thread(target=restart)
    restarter.start()
    assert run(triton.url, "cleanup", IMAGE, IMAGE).size == (40, 30)
    restarter.join()


def test_deadline(run: Run, triton: FakeTriton) -> None:
    triton.delay_seconds = 60.0  # an answer comes only long after the deadline
    with pytest.raises(DeadlineExceeded, match=r"no answer to 'cleanup' within 0\.2 s") as caught:
        run(triton.url, "cleanup", IMAGE, IMAGE, timeout=0.2)
    assert_ours_alone(caught.value)


def test_status(run: Run, triton: FakeTriton) -> None:
    triton.models.remove("smart_remove")
    everything = {name: name != "smart_remove" for name in PIPELINES}
    assert run(triton.url, "status") == Status(True, True, "2.51.0", everything)
    triton.stop()
    assert run(triton.url, "status") == Status(False, False, None, dict.fromkeys(everything, False))
    triton.start()


async def arrived(triton: FakeTriton) -> None:
    """Wait for a request."""
    while not triton.requests:
        await asyncio.sleep(0.01)


def test_closing_ends_a_blocking_call(triton: FakeTriton) -> None:
    triton.delay_seconds = 60.0
    client = Client(triton.url)

    def close() -> None:
        while not triton.requests:
            time.sleep(0.01)
        client.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(close)
        with pytest.raises(Cancelled) as caught:
            client.cleanup(IMAGE, IMAGE)
    assert_ours_alone(caught.value)
    with pytest.raises(Cancelled, match="the client is closed"):
        client.cleanup(IMAGE, IMAGE)


def test_closing_ends_an_asynchronous_call(triton: FakeTriton) -> None:
    triton.delay_seconds = 60.0

    async def main() -> None:
        client = AsyncClient(triton.url)
        call = asyncio.create_task(client.cleanup(IMAGE, IMAGE))
        await arrived(triton)
        await client.close()
        with pytest.raises(Cancelled, match="closed during the call"):
            await call
        with pytest.raises(Cancelled, match="the client is closed"):
            await client.cleanup(IMAGE, IMAGE)

    asyncio.run(main())


def test_a_cancelled_task_is_cancelled(triton: FakeTriton) -> None:
    triton.delay_seconds = 60.0

    async def main() -> None:
        async with AsyncClient(triton.url) as client:
            call = asyncio.create_task(client.cleanup(IMAGE, IMAGE))
            await arrived(triton)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(main())


def test_many_calls_share_a_client(triton: FakeTriton) -> None:
    async def main() -> None:
        async with AsyncClient(triton.url) as client:
            found = await asyncio.gather(*(client.segment(IMAGE, [(i, i)]) for i in range(8)))
            assert [item.score for item in found] == [0.875] * 8

    asyncio.run(main())


@pytest.mark.parametrize("url", ["http://localhost:8000", "https://nexus.example", "", "localhost"])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_address_that_is_no_grpc_port(kind: type[Client] | type[AsyncClient], url: str) -> None:
    with pytest.raises(InvalidInput, match="HOST:PORT of its gRPC port, such as localhost:8001"):
        kind(url)
