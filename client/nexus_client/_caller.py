"""One call from start to end: build, send, retry within the budget, read. Knows nothing of gRPC.

Only `Unavailable` is retried, and of a stream only up to its first answer. An image that a server has seen is sent by
reference, and whole where the server no longer holds it. A call's `timeout` is its whole budget:
encoding, every try and every wait; each try gets what remains, and no wait takes more than half of it.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

from ._operations import PIPELINES, Request
from ._results import Status
from ._retry import RetryPolicy
from ._runtime import Runtime
from ._tensors import Tensors
from ._transport import AsyncTransport
from .exceptions import (
    DeadlineExceeded,
    ImageNotHeld,
    InvalidInput,
    NotDeployed,
    OutOfMemory,
    ServerError,
    Unavailable,
)

T = TypeVar("T")
A = TypeVar("A")

Answers = AsyncGenerator[Tensors, None]

# Sends a request once: model, inputs, timeout in seconds -> answer.
Attempt = Callable[[str, Tensors, float], Awaitable[A]]

# Seconds.
DEFAULT_TIMEOUT = 60.0

# Seconds. A fill is tens of network calls that share the device with other fills: minutes on a busy server.
DEFAULT_FILL_TIMEOUT = 300.0

DEFAULT_RETRIES = RetryPolicy()

# Seconds; no server could answer another try in less.
SHORTEST_TRY = 0.05

CUT_SHORT = "the server ended the stream before its result"

logger = logging.getLogger("nexus_client")


class Caller:
    """Makes the calls of a client: holds its transport, its clock, its time-out and its retry policy."""

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
        self, build: Callable[[], Request[T]], timeout: float | None, default: float = DEFAULT_TIMEOUT
    ) -> T:
        """Return the result of the request that `build` makes. Raises any `NexusError`.

        `default`: the budget in seconds if neither the call nor the client has one.
        """
        call = self._begin(timeout, default)
        request = await self._runtime.compute(build)
        attempt = self._last_answer if request.streams else self.transport.infer
        outputs = await self._send(request, attempt, call)
        return await self._runtime.compute(lambda: request.read(outputs))

    async def stream(
        self, build: Callable[[], Request[T]], timeout: float | None, default: float
    ) -> AsyncGenerator[T, None]:
        """Yield every answer to the request that `build` makes; closing this cancels it on the server."""
        call = self._begin(timeout, default)
        request = await self._runtime.compute(build)
        outputs, answers = await self._send(request, self._first_answer, call)
        async with aclosing(answers):
            while True:
                yield await self._runtime.compute(lambda: request.read(outputs))  # noqa: B023 - used at once
                try:
                    following = await self._disambiguate(request.model, _next(answers), call)
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

    async def _send(self, request: Request[T], attempt: Attempt[A], call: _Call) -> A:
        """Send the request until a server takes it or the budget ends; return that try's answer."""
        waits = self._retries.waits(self._draw) if self._retries else iter(())
        reason = ""
        place = (self._address, request.model)
        inputs = await self._runtime.compute(lambda: request.inputs_for(place))
        while True:
            call.tries += 1
            allowed = call.left()
            try:
                answer = await self._disambiguate(
                    request.model, attempt(request.model, inputs, allowed), call
                )
                request.arrived(place)
                return answer
            except ImageNotHeld:
                if inputs is request.inputs:
                    raise
                inputs = request.inputs
                continue
            except DeadlineExceeded:
                # If an outage left little time for the last try, the server may not be slow: report the outage.
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

    async def _last_answer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """Return the one answer of a streaming model that is asked for no progress."""
        async with aclosing(self.transport.stream(model, inputs, timeout)) as answers:
            received = [outputs async for outputs in answers]
        if not received:
            raise Unavailable(CUT_SHORT)
        return received[-1]

    async def _first_answer(self, model: str, inputs: Tensors, timeout: float) -> tuple[Tensors, Answers]:
        """Return the first answer of a stream, by which the server has accepted the request, and the others."""
        answers = self.transport.stream(model, inputs, timeout)
        first = await _next(answers)
        if first is None:
            raise Unavailable(CUT_SHORT)
        return first, answers

    async def _disambiguate(self, model: str, answer: Awaitable[A], call: _Call) -> A:
        """Return the answer; raise `Unavailable` for an error that only means that the server starts or stops.

        Meanwhile a server also reports NOT_FOUND for models it does serve, and INTERNAL when a pipeline no longer
        reaches its networks.
        """
        try:
            return await answer
        except (NotDeployed, ServerError) as error:
            if await self.transport.ready(call.left()):
                if isinstance(error, ServerError):
                    raise
                if not await self.transport.model_ready(model, call.left()):
                    raise NotDeployed(
                        f"{self._address} does not serve {model!r}: deploy that pipeline"
                    ) from None
            raise Unavailable("the server is starting or stopping") from None

    def _begin(self, timeout: float | None, default: float) -> _Call:
        budget = self._timeout or default if timeout is None else _checked(timeout)
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
