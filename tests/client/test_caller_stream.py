"""A generative fill's stream over the transport in memory: leaving it early, retries, faults on the way."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing

import numpy as np
import pytest
from nexus_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    FillProgress,
    InvalidInput,
    NexusError,
    NotDeployed,
    OutOfMemory,
    ServerError,
    Unavailable,
)

from tests.client.support.fakes import AsyncMockTransport, Fill, MockTransport

IMAGE = np.zeros((30, 40, 3), np.uint8)
MASK = np.zeros((30, 40), bool)


def test_nothing_is_sent_before_the_first_iteration(mock: MockTransport) -> None:
    events = Client(transport=mock).generative_fill_stream(IMAGE, MASK, "a bench")
    assert mock.calls == []
    events.close()
    assert mock.calls == []


def test_break_close_and_exceptions_cancel(mock: MockTransport) -> None:
    client = Client(transport=mock)
    for _ in client.generative_fill_stream(IMAGE, MASK, "a bench"):
        break
    assert mock.cancelled == [1]

    events = client.generative_fill_stream(IMAGE, MASK, "a bench")
    assert isinstance(next(events), FillProgress)
    assert isinstance(next(events), FillProgress)
    events.close()
    assert mock.cancelled == [1, 2]

    def fail_at_the_third_step() -> None:
        with closing(client.generative_fill_stream(IMAGE, MASK, "a bench")) as events:
            for event in events:
                if isinstance(event, FillProgress) and event.step == 3:
                    raise KeyError

    with pytest.raises(KeyError):
        fail_at_the_third_step()
    assert mock.cancelled == [1, 2, 3]


def test_leaving_an_asynchronous_loop_cancels(mock: MockTransport, async_mock: AsyncMockTransport) -> None:
    async def broken() -> None:
        async for _ in AsyncClient(transport=async_mock).generative_fill_stream(IMAGE, MASK, "a bench"):
            break
        for _ in range(3):  # the event loop closes unreferenced generators, one await at a time
            await asyncio.sleep(0)

    asyncio.run(broken())
    assert mock.cancelled == [1]

    async def closed() -> None:
        events = AsyncClient(transport=async_mock).generative_fill_stream(IMAGE, MASK, "a bench")
        async with aclosing(events):
            await anext(events)
            await anext(events)

    asyncio.run(closed())
    assert mock.cancelled == [1, 2]

    async def cancelled() -> None:
        client = AsyncClient(transport=async_mock)
        asleep = asyncio.Event()

        async def read() -> None:
            async for event in client.generative_fill_stream(IMAGE, MASK, "a bench"):
                if isinstance(event, FillProgress) and event.step == 3:
                    asleep.set()
                    await asyncio.sleep(60)

        task = asyncio.create_task(read())
        await asleep.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert mock.cancelled == [1, 2, 3]


def test_unavailable_before_the_first_step_is_retried(fill: Fill, mock: MockTransport) -> None:
    mock.faults = [Unavailable("starting"), Unavailable("starting")]
    assert len(fill(mock)) == 5
    assert len(mock.calls) == 3


@pytest.mark.parametrize(
    ("error", "expected", "sentence"),
    [
        (Unavailable("broken"), Unavailable, r"localhost:8001 is unavailable \(1 try in \d+\.\d s\): broken"),
        (OutOfMemory("out of memory: both tiers"), OutOfMemory, "^out of memory: both tiers$"),
        (DeadlineExceeded("late"), DeadlineExceeded, "'generative_fill' did not finish within 300 s"),
        (InvalidInput("the mask is empty."), InvalidInput, "the mask is empty."),
        (ServerError("failed"), ServerError, "failed"),
    ],
)
def test_nothing_is_retried_after_the_first_step(
    fill: Fill, mock: MockTransport, error: NexusError, expected: type[NexusError], sentence: str
) -> None:
    mock.break_after = (2, error)
    with pytest.raises(expected, match=sentence) as caught:
        fill(mock)
    assert type(caught.value) is expected
    assert len(mock.calls) == 1


@pytest.mark.parametrize("steps_given", [1, 4])
def test_a_stream_that_ends_before_its_result_is_an_outage(
    fill: Fill, mock: MockTransport, steps_given: int
) -> None:
    mock.break_after = (steps_given, None)
    sentence = r"^localhost:8001 is unavailable \(1 try in \d+\.\d s\): the server ended the stream before its result$"
    with pytest.raises(Unavailable, match=sentence):
        fill(mock)
    assert len(mock.calls) == 1


@pytest.mark.parametrize("method", ["generative_fill", "generative_fill_stream"])
def test_a_stream_without_an_answer_is_an_outage(mock: MockTransport, method: str) -> None:
    mock.break_after = (0, None)
    client = Client(transport=mock, retries=None)
    with pytest.raises(Unavailable, match="the server ended the stream before its result"):
        list(getattr(client, method)(IMAGE, MASK, "a bench"))


def test_a_failure_in_mid_stream_of_a_server_that_stops_is_an_outage(fill: Fill, mock: MockTransport) -> None:
    mock.is_ready = False
    mock.break_after = (1, ServerError("sdxl_unet failed"))
    with pytest.raises(Unavailable, match="the server is starting or stopping"):
        fill(mock)


def test_out_of_memory_is_never_retried(fill: Fill, mock: MockTransport) -> None:
    mock.faults = [OutOfMemory("out of memory: both tiers")]
    with pytest.raises(OutOfMemory, match="out of memory: both tiers"):
        fill(mock)
    mock.faults = [OutOfMemory("out of memory: both tiers")]
    with pytest.raises(OutOfMemory):
        Client(transport=mock).generative_fill(IMAGE, MASK, "a bench")
    assert len(mock.calls) == 2


def test_not_deployed(fill: Fill, mock: MockTransport) -> None:
    mock.models.remove("generative_fill")
    mock.faults = [NotDeployed("unknown model")]
    with pytest.raises(NotDeployed, match="does not serve 'generative_fill': deploy that pipeline"):
        fill(mock)
