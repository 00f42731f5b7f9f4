"""Retries on a clock that only moves when the code under test waits: schedule, budget, drain, ambiguity."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import pytest
from nexus_client import (
    Cancelled,
    DeadlineExceeded,
    InvalidInput,
    NexusError,
    NotDeployed,
    RetryPolicy,
    ServerError,
    Tensors,
    Unavailable,
)
from nexus_client._blocking import finish
from nexus_client._caller import DEFAULT_RETRIES, Caller
from nexus_client._operations import Request

from tests.client.support.fakes import AsyncMockTransport, MockTransport

T = TypeVar("T")

REQUEST: Request[str] = Request("segment", {"image": np.array([[b"photo"]], np.object_)}, lambda _: "read")


class FakeRuntime:
    """A clock that moves by sleeping, or by hand."""

    def __init__(self) -> None:
        self.time = 100.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds

    async def compute(self, function: Callable[[], T]) -> T:
        return function()


class Slow:
    """A transport whose every try takes `seconds`, or the whole of its time-out if that is less."""

    def __init__(self, inner: AsyncMockTransport, runtime: FakeRuntime, seconds: list[float]) -> None:
        self.inner = inner
        self.runtime = runtime
        self.seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        seconds = self.seconds.pop(0)
        self.runtime.time += min(seconds, timeout)
        if seconds >= timeout:
            self.inner.mock.faults.insert(0, DeadlineExceeded("too slow"))
        return await self.inner.infer(model, inputs, timeout)


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


def caller(
    transport: Any, runtime: FakeRuntime, policy: RetryPolicy | None = DEFAULT_RETRIES, draw: float = 1.0
) -> Caller:
    return Caller("nexus:8001", transport, runtime, 60.0, policy, lambda: draw)


def call(caller: Caller, timeout: float | None = None) -> str:
    return finish(caller.call(lambda: REQUEST, timeout))


def test_unavailable_is_retried_until_it_passes(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.faults = [Unavailable("starting")] * 3
    assert call(caller(async_mock, runtime)) == "read"
    assert runtime.waits == pytest.approx([0.1, 0.2, 0.4])
    # Each try gets what is left of the 60 s.
    assert [c.timeout for c in mock.calls] == pytest.approx([60.0, 59.9, 59.7, 59.3])


def test_the_retries_end_with_the_budget(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.faults = [Unavailable("connection refused")] * 100
    with pytest.raises(Unavailable) as caught:
        call(caller(async_mock, runtime), timeout=10.0)
    # 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 2 + 2 = 7.1 s by the policy; then half of what is left, down to 0.05 s.
    assert runtime.waits[:8] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 1.45])
    assert 9.95 < runtime.time - 100.0 <= 10.0
    assert caught.value.tries == len(mock.calls) == 14
    assert caught.value.seconds == pytest.approx(runtime.time - 100.0)
    assert str(caught.value) == "nexus:8001 is unavailable (14 tries in 10.0 s): connection refused"


def test_retries_can_be_switched_off(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.faults = [Unavailable("down")]
    with pytest.raises(Unavailable, match=r"nexus:8001 is unavailable \(1 try in 0.0 s\): down"):
        call(caller(async_mock, runtime, policy=None))
    assert runtime.waits == []


@pytest.mark.parametrize(
    "error", [InvalidInput("x"), ServerError("x"), Cancelled("x"), DeadlineExceeded("x")]
)
def test_nothing_else_is_retried(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime, error: NexusError
) -> None:
    mock.faults = [error]
    with pytest.raises(type(error)):
        call(caller(async_mock, runtime))
    assert len(mock.calls) == 1


def test_not_found_on_a_ready_server_without_the_model_is_final(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.models.remove("segment")
    mock.faults = [NotDeployed("unknown model")]
    with pytest.raises(NotDeployed, match="nexus:8001 does not serve 'segment': deploy that pipeline"):
        call(caller(async_mock, runtime))
    assert len(mock.calls) == 1


def test_not_found_from_a_server_that_is_stopping_is_retried(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.is_ready = False
    mock.models.clear()
    mock.faults = [NotDeployed("unknown model")] * 2
    assert call(caller(async_mock, runtime)) == "read"
    assert len(mock.calls) == 3


def test_a_failure_inside_a_server_that_is_stopping_is_retried(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.is_ready = False
    mock.faults = [ServerError("sam_encoder failed")]
    assert call(caller(async_mock, runtime)) == "read"
    assert len(mock.calls) == 2


def test_not_found_for_a_model_that_is_ready_by_now_is_retried(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.faults = [NotDeployed("unknown model")]
    assert call(caller(async_mock, runtime)) == "read"
    assert len(mock.calls) == 2


def test_a_server_that_stays_in_between_is_unavailable(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.is_ready = False
    mock.faults = [NotDeployed("unknown model")] * 100
    with pytest.raises(Unavailable, match="the server is starting or stopping"):
        call(caller(async_mock, runtime), timeout=5.0)


def test_a_slow_answer_is_a_deadline(async_mock: AsyncMockTransport, runtime: FakeRuntime) -> None:
    with pytest.raises(DeadlineExceeded, match="no answer to 'segment' within 5 s") as caught:
        call(caller(Slow(async_mock, runtime, [9.0]), runtime), timeout=5.0)
    assert caught.value.timeout == 5.0


def test_a_deadline_after_a_short_outage_is_a_deadline(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.faults = [Unavailable("starting")]
    with pytest.raises(DeadlineExceeded):
        call(caller(Slow(async_mock, runtime, [0.0, 9.0]), runtime), timeout=5.0)


def test_a_deadline_after_a_long_outage_is_an_outage(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.faults = [Unavailable("no route")]
    with pytest.raises(Unavailable, match=r"\(2 tries in 5.0 s\): no route"):
        call(caller(Slow(async_mock, runtime, [3.0, 9.0]), runtime), timeout=5.0)


def test_the_budget_includes_the_encoding(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    def build() -> Request[str]:
        runtime.time += 2.0
        return REQUEST

    finish(caller(async_mock, runtime).call(build, 5.0))
    assert mock.calls[0].timeout == pytest.approx(3.0)


def test_waits_are_logged(
    mock: MockTransport,
    async_mock: AsyncMockTransport,
    runtime: FakeRuntime,
    caplog: pytest.LogCaptureFixture,
) -> None:
    mock.faults = [Unavailable("connection refused")]
    with caplog.at_level(logging.INFO, logger="nexus_client"):
        call(caller(async_mock, runtime))
    assert caplog.messages == ["nexus:8001: connection refused; trying for 60 s more"]


def test_the_same_code_runs_under_asyncio(
    mock: MockTransport, async_mock: AsyncMockTransport, runtime: FakeRuntime
) -> None:
    mock.faults = [Unavailable("starting")] * 2
    assert asyncio.run(caller(async_mock, runtime, draw=0.5).call(lambda: REQUEST, None)) == "read"
    assert runtime.waits == pytest.approx([0.05, 0.1])
