"""Generative fill over a real gRPC server on loopback: the stream's tensors, cancelling, faults, threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import Any

import grpc
import numpy as np
import pytest
from nexus_client import (
    AsyncClient,
    Cancelled,
    Client,
    DeadlineExceeded,
    FillProgress,
    GenerativeFill,
    InvalidInput,
    NexusError,
    NotDeployed,
    OutOfMemory,
    RetryPolicy,
    ServerError,
    Unavailable,
)

from tests.client.support.fake_triton import FakeTriton

IMAGE = np.zeros((30, 40, 3), np.uint8)
MASK = np.zeros((30, 40), bool)
QUICK = RetryPolicy(initial=0.02, maximum=0.1)
BROKEN = "Stream removed (Socket closed)"
NOTICED_SECONDS = 10.0  # a cancellation crosses loopback within milliseconds; the rest is for a busy machine

Events = list[FillProgress | GenerativeFill]
Run = Callable[..., Events]


def blocking(url: str, count: int = 99, **options: Any) -> Events:
    """The first `count` events of a stream, which is then closed."""
    with Client(url, retries=QUICK) as client:
        events = client.generative_fill_stream(IMAGE, MASK, "a bench", **options)
        with closing(events):
            return [event for _, event in zip(range(count), events)]


def asynchronous(url: str, count: int = 99, **options: Any) -> Events:
    async def main() -> Events:
        received: Events = []
        async with AsyncClient(url, retries=QUICK) as client:
            events = client.generative_fill_stream(IMAGE, MASK, "a bench", **options)
            async with aclosing(events):
                while len(received) < count:
                    try:
                        received.append(await anext(events))
                    except StopAsyncIteration:
                        break
        return received

    return asyncio.run(main())


@pytest.fixture(params=[blocking, asynchronous])
def run(request: pytest.FixtureRequest) -> Run:
    function: Run = request.param
    return function


def steps(events: Events) -> list[int]:
    return [event.step for event in events if isinstance(event, FillProgress)]


def test_a_fill_without_progress_is_one_answer(triton: FakeTriton) -> None:
    with Client(triton.url) as client:
        fill = client.generative_fill(IMAGE, MASK, "a bench", seed=2**40)
    assert (fill.seed, fill.model, fill.image.size) == (2**40, "sdxl", (40, 30))

    async def main() -> GenerativeFill:
        async with AsyncClient(triton.url) as client:
            return await client.generative_fill(IMAGE, MASK, "a bench", seed=2**40)

    assert asyncio.run(main()).seed == 2**40
    assert triton.stopped.empty()


def test_the_stream_crosses_the_wire(run: Run, triton: FakeTriton) -> None:
    events = run(triton.url, steps=3, guidance_scale=5.5, preview_every=2)
    assert steps(events) == [1, 2, 3]
    assert isinstance(events[-1], GenerativeFill)
    (request,) = triton.requests
    assert request.model_name == "generative_fill"
    sent = {tensor.name: (tensor.datatype, list(tensor.shape)) for tensor in request.inputs}
    assert sent == {
        "image": ("BYTES", [1, 1]),
        "mask": ("BYTES", [1, 1]),
        "prompt": ("BYTES", [1, 1]),
        "steps": ("INT32", [1, 1]),
        "guidance_scale": ("FP32", [1, 1]),
        "progress": ("BOOL", [1, 1]),
        "preview_every": ("INT32", [1, 1]),
    }
    # Without this header Triton would put an error's sentence, without its code, in an answer.
    assert triton.metadata[0]["triton_grpc_error"] == "true"


def test_leaving_early_cancels_on_the_server(run: Run, triton: FakeTriton) -> None:
    triton.delay_seconds = 0.1
    assert steps(run(triton.url, count=2, steps=50)) == [1, 2]
    # 10 steps a second: the server may have taken a few more steps before the cancellation reached a busy machine.
    assert triton.stopped.get(timeout=NOTICED_SECONDS) < 50


@pytest.mark.parametrize("method", ["generative_fill", "generative_fill_stream"])
def test_a_cancelled_task_cancels_on_the_server(triton: FakeTriton, method: str) -> None:
    triton.delay_seconds = 60.0

    async def main() -> None:
        async with AsyncClient(triton.url) as client:

            async def read() -> None:
                call = getattr(client, method)(IMAGE, MASK, "a bench")
                await (call if method == "generative_fill" else anext(call))

            task = asyncio.create_task(read())
            while not triton.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(triton.stopped.get, timeout=NOTICED_SECONDS) == 0

    asyncio.run(main())


def test_the_deadline_ends_a_stream_and_the_server_s_work(run: Run, triton: FakeTriton) -> None:
    triton.delay_seconds = 0.1
    with pytest.raises(DeadlineExceeded, match=r"'generative_fill' did not finish within 2 s") as caught:
        run(triton.url, steps=50, timeout=2.0)
    assert caught.value.timeout == 2.0
    assert triton.stopped.get(timeout=NOTICED_SECONDS) < 50


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("INVALID_ARGUMENT", "the mask is empty.", InvalidInput),
        ("UNAVAILABLE", "out of memory: sdxl and sd15 both lack device memory.", OutOfMemory),
        ("CANCELLED", "the request was cancelled.", Cancelled),
        ("INTERNAL", "generative_fill failed", ServerError),
    ],
)
@pytest.mark.parametrize("answers", [0, 2])
def test_codes_become_our_exceptions(
    run: Run, triton: FakeTriton, code: str, message: str, expected: type[NexusError], answers: int
) -> None:
    triton.break_after = (answers, (grpc.StatusCode[code], message))
    with pytest.raises(expected) as caught:
        run(triton.url)
    assert type(caught.value) is expected
    assert message in str(caught.value) or expected is Cancelled
    assert len(triton.requests) == 1


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("UNAVAILABLE", "generative_fill is busy with 16 requests; try again."),
        ("INTERNAL", "Stub process 'generative_fill_0_0' is not healthy."),
    ],
)
def test_passing_faults_are_retried_before_the_first_step(
    run: Run, triton: FakeTriton, code: str, message: str
) -> None:
    triton.faults = [(grpc.StatusCode[code], message)] * 3
    assert len(run(triton.url)) == 5
    assert len(triton.requests) == 4


def test_unavailable_after_the_first_step_is_not_retried(run: Run, triton: FakeTriton) -> None:
    triton.break_after = (2, (grpc.StatusCode.UNAVAILABLE, BROKEN))
    with pytest.raises(Unavailable, match=r"1 try in \d\.\d s\): Stream removed"):
        run(triton.url)
    assert len(triton.requests) == 1


def test_a_starting_server_refuses_without_a_code(run: Run, triton: FakeTriton) -> None:
    """Triton's own refusals come as a sentence in an answer, despite the header."""
    refusal = "Request for unknown model: 'generative_fill' has no available versions"
    triton.refusals = [refusal] * 2
    assert len(run(triton.url)) == 5
    assert len(triton.requests) == 3

    triton.models.remove("generative_fill")
    triton.refusals = [refusal]
    with pytest.raises(NotDeployed, match="does not serve 'generative_fill'"):
        run(triton.url)

    triton.refusals = ["inference input 'image' data-type is 'FP32'"]
    with pytest.raises(ServerError, match="the server failed: inference input"):
        run(triton.url)


def test_threads_stream_at_once_from_one_client(triton: FakeTriton) -> None:
    with Client(triton.url) as client, ThreadPoolExecutor(2) as threads:

        def read(seed: int) -> Events:
            return list(client.generative_fill_stream(IMAGE, MASK, "a bench", steps=20, seed=seed))

        triton.delay_seconds = 0.01
        for seed, events in zip((1, 2), threads.map(read, (1, 2))):
            assert steps(events) == list(range(1, 21))
            assert isinstance(events[-1], GenerativeFill)
            assert events[-1].seed == seed


def test_two_streams_in_turns_from_one_client(triton: FakeTriton) -> None:
    with Client(triton.url) as client:
        one, other = (
            client.generative_fill_stream(IMAGE, MASK, "a bench", steps=3, seed=seed) for seed in (1, 2)
        )
        pairs = list(zip(one, other, strict=True))
    assert [steps(list(pair)) for pair in pairs] == [[1, 1], [2, 2], [3, 3], []]


def test_closing_the_client_ends_its_streams(triton: FakeTriton) -> None:
    triton.delay_seconds = 0.05
    client = Client(triton.url)
    events = client.generative_fill_stream(IMAGE, MASK, "a bench", steps=50)
    next(events)
    client.close()
    with pytest.raises(Cancelled):
        list(events)
    triton.stopped.get(timeout=NOTICED_SECONDS)

    async def main() -> None:
        client = AsyncClient(triton.url)
        events = client.generative_fill_stream(IMAGE, MASK, "a bench", steps=50)
        await anext(events)
        await client.close()
        with pytest.raises(Cancelled):
            [event async for event in events]

    asyncio.run(main())
    triton.stopped.get(timeout=NOTICED_SECONDS)
