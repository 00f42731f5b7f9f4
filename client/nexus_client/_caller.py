"""One call from start to end: build, send, retry within the budget, read. Knows nothing of gRPC.

Only `Unavailable` is retried, and of a stream only up to its first answer. A call's `timeout` is its whole budget:
encoding, every try and every wait; each try gets what remains, and no wait takes more than half of it.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from ._requests import PIPELINES, Request
from ._results import Status
from ._retry import RetryPolicy
from ._runtime import Runtime
from ._tensors import Tensors
from ._transport import AsyncTransport
from .exceptions import (
    DeadlineExceeded,
    InvalidInput,
    NotDeployed,
    OutOfMemory,
    ServerError,
    Unavailable,
)

T = TypeVar("T")
A = TypeVar("A")

Answers = AsyncGenerator[Tensors, None]
Send = Callable[[str, Tensors, float], Awaitable[A]]
"""Makes one try: model, inputs, seconds -> what it brings."""

DEFAULT_TIMEOUT = 60.0
"""Seconds."""

DEFAULT_FILL_TIMEOUT = 300.0
"""Seconds. A fill is tens of network calls that share the device with other fills: on a busy server minutes."""

DEFAULT_RETRIES = RetryPolicy()

SHORTEST_TRY = 0.05
"""Seconds; with less left of the budget another try could not be answered."""

CUT_SHORT = "the server ended the stream before its result"

logger = logging.getLogger("nexus_client")


class Caller:
    """What a client holds: a transport, a clock, and how patient to be."""

    def __init__(
        self,
        address: str,
        transport: AsyncTransport,
        runtime: Runtime,
        timeout: float | None,
        retries: RetryPolicy | None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.transport = transport
        self._address = address
        self._runtime = runtime
        self._timeout = None if timeout is None else _checked(timeout)
        self._retries = retries
        self._draw = draw

    async def call(
        self, build: Callable[[], Request[T]], timeout: float | None, usual: float = DEFAULT_TIMEOUT
    ) -> T:
        """Return the result of the request that `build` makes; raises any `NexusError`.

        `usual`: the budget in seconds where neither the call nor the client has one.
        """
        call = self._begin(timeout, usual)
        request = await self._runtime.compute(build)
        send = self._single if request.streams else self.transport.infer
        outputs = await self._send(request, send, call)
        return await self._runtime.compute(lambda: request.read(outputs))

    async def stream(
        self, build: Callable[[], Request[T]], timeout: float | None, usual: float
    ) -> AsyncGenerator[T, None]:
        """Yield every answer to the request that `build` makes; closing this cancels it on the server."""
        call = self._begin(timeout, usual)
        request = await self._runtime.compute(build)
        outputs, answers = await self._send(request, self._open, call)
        async with aclosing(answers):
            while True:
                yield await self._runtime.compute(lambda: request.read(outputs))  # noqa: B023 - used at once
                try:
                    following = await self._judged(request.model, _next(answers), call)
                except DeadlineExceeded:
                    message = f"{request.model!r} did not finish within {call.budget:.3g} s"
                    raise DeadlineExceeded(message, timeout=call.budget) from None
                except OutOfMemory:
                    raise
                except Unavailable as error:
                    raise self._outage(str(error), call) from None
                if following is None:
                    if request.is_result(outputs):
                        return
                    raise self._outage(CUT_SHORT, call)
                outputs = following

    async def _send(self, request: Request[T], send: Send[A], call: _Call) -> A:
        """Return what the first try brings that meets an available server."""
        waits = self._retries.waits(self._draw) if self._retries else iter(())
        reason = ""
        while True:
            call.tries += 1
            allowed = call.left()
            try:
                return await self._judged(request.model, send(request.model, request.inputs, allowed), call)
            except DeadlineExceeded:
                # A last try cut short by an outage says nothing of the server's speed: report the outage.
                if not reason or allowed > call.budget / 2:
                    raise DeadlineExceeded(
                        f"no answer to {request.model!r} within {call.budget:.3g} s", timeout=call.budget
                    ) from None
            except OutOfMemory:
                raise
            except Unavailable as error:
                reason = str(error)
            left = call.left()
            wait = next(waits, None)
            if wait is None or left < SHORTEST_TRY:
                raise self._outage(reason, call)
            logger.info("%s: %s; trying for %.0f s more", self._address, reason, left)
            await self._runtime.sleep(min(wait, left / 2))

    async def _single(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """The one answer of a streaming model that is asked for no progress."""
        async with aclosing(self.transport.stream(model, inputs, timeout)) as answers:
            received = [outputs async for outputs in answers]
        if not received:
            raise Unavailable(CUT_SHORT)
        return received[-1]

    async def _open(self, model: str, inputs: Tensors, timeout: float) -> tuple[Tensors, Answers]:
        """The first answer of a stream, which tells that the server has taken the request, and the others."""
        answers = self.transport.stream(model, inputs, timeout)
        first = await _next(answers)
        if first is None:
            raise Unavailable(CUT_SHORT)
        return first, answers

    async def _judged(self, model: str, answer: Awaitable[A], call: _Call) -> A:
        try:
            return await answer
        except (NotDeployed, ServerError) as error:
            # A server that is starting or stopping also says NOT_FOUND of models it does serve, and INTERNAL
            # when a pipeline could not reach its networks any more.
            if await self.transport.ready(call.left()):
                if isinstance(error, ServerError):
                    raise
                if not await self.transport.model_ready(model, call.left()):
                    raise NotDeployed(
                        f"{self._address} does not serve {model!r}: deploy that pipeline"
                    ) from None
            raise Unavailable("the server is starting or stopping") from None

    async def status(self, timeout: float | None) -> Status:
        """Ask once, without retries; a server that does not answer is not live."""
        call = self._begin(timeout, DEFAULT_TIMEOUT)
        try:
            live = await self.transport.live(call.left())
            ready = await self.transport.ready(call.left())
            version = await self.transport.version(call.left())
            pipelines = {name: await self.transport.model_ready(name, call.left()) for name in PIPELINES}
        except (Unavailable, DeadlineExceeded):
            return Status(live=False, ready=False, version=None, pipelines=dict.fromkeys(PIPELINES, False))
        return Status(live, ready, version, pipelines)

    def _begin(self, timeout: float | None, usual: float) -> _Call:
        budget = self._timeout or usual if timeout is None else _checked(timeout)
        return _Call(self._runtime, budget)

    def _outage(self, reason: str, call: _Call) -> Unavailable:
        count = "1 try" if call.tries == 1 else f"{call.tries} tries"
        seconds = call.budget - call.left()
        message = f"{self._address} is unavailable ({count} in {seconds:.1f} s): {reason}"
        return Unavailable(message, tries=call.tries, seconds=seconds)


class _Call:
    """The budget of one call in seconds, and how often its request was sent."""

    def __init__(self, runtime: Runtime, budget: float) -> None:
        self.budget = budget
        self.tries = 0
        self._now = runtime.now
        self._deadline = runtime.now() + budget

    def left(self) -> float:
        """Seconds that remain of the budget."""
        return max(self._deadline - self._now(), 0.0)


async def _next(answers: Answers) -> Tensors | None:
    """Return the next answer of a stream, or None at its end."""
    async for outputs in answers:
        return outputs
    return None


def _checked(timeout: float) -> float:
    if not (timeout > 0 and math.isfinite(timeout)):
        raise InvalidInput(f"timeout must be a positive number of seconds, not {timeout!r}")
    return timeout
