"""One call from start to end: build, send, retry within the budget, read. Knows nothing of gRPC.

Only `Unavailable` is retried. A call's `timeout` is its whole budget: encoding, every try and every wait;
each try gets what remains, and no wait takes more than half of it.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import TypeVar

from ._requests import PIPELINES, Request, Tensors
from ._results import Status
from ._retry import RetryPolicy
from ._runtime import Runtime
from ._transport import AsyncTransport
from .exceptions import DeadlineExceeded, InvalidInput, NotDeployed, ServerError, Unavailable

T = TypeVar("T")

DEFAULT_TIMEOUT = 60.0
"""Seconds."""

DEFAULT_RETRIES = RetryPolicy()

SHORTEST_TRY = 0.05
"""Seconds; with less left of the budget another try could not be answered."""

logger = logging.getLogger("nexus_client")


class Caller:
    """What a client holds: a transport, a clock, and how patient to be."""

    def __init__(
        self,
        address: str,
        transport: AsyncTransport,
        runtime: Runtime,
        timeout: float,
        retries: RetryPolicy | None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.transport = transport
        self._address = address
        self._runtime = runtime
        self._timeout = _checked(timeout)
        self._retries = retries
        self._draw = draw

    async def call(self, build: Callable[[], Request[T]], timeout: float | None) -> T:
        """Return the result of the request that `build` makes; raises any `NexusError`."""
        budget = self._timeout if timeout is None else _checked(timeout)
        deadline = self._runtime.now() + budget
        request = await self._runtime.compute(build)
        outputs = await self._send(request.model, request.inputs, budget, deadline)
        return await self._runtime.compute(lambda: request.read(outputs))

    async def _send(self, model: str, inputs: Tensors, budget: float, deadline: float) -> Tensors:
        waits = self._retries.waits(self._draw) if self._retries else iter(())
        reason = ""
        tries = 0
        while True:
            tries += 1
            allowed = self._left(deadline)
            try:
                return await self._attempt(model, inputs, deadline)
            except DeadlineExceeded:
                # A last try cut short by an outage says nothing of the server's speed: report the outage.
                if not reason or allowed > budget / 2:
                    raise DeadlineExceeded(
                        f"no answer to {model!r} within {budget:.3g} s", timeout=budget
                    ) from None
            except Unavailable as error:
                reason = str(error)
            left = self._left(deadline)
            wait = next(waits, None)
            if wait is None or left < SHORTEST_TRY:
                raise self._outage(reason, tries, budget - left)
            logger.info("%s: %s; trying for %.0f s more", self._address, reason, left)
            await self._runtime.sleep(min(wait, left / 2))

    async def _attempt(self, model: str, inputs: Tensors, deadline: float) -> Tensors:
        try:
            return await self.transport.infer(model, inputs, self._left(deadline))
        except (NotDeployed, ServerError) as error:
            # A server that is starting or stopping also says NOT_FOUND of models it does serve, and INTERNAL
            # when a pipeline could not reach its networks any more.
            if await self.transport.ready(self._left(deadline)):
                if isinstance(error, ServerError):
                    raise
                if not await self.transport.model_ready(model, self._left(deadline)):
                    raise NotDeployed(
                        f"{self._address} does not serve {model!r}: deploy that pipeline"
                    ) from None
            raise Unavailable("the server is starting or stopping") from None

    async def status(self, timeout: float | None) -> Status:
        """Ask once, without retries; a server that does not answer is not live."""
        deadline = self._runtime.now() + (self._timeout if timeout is None else _checked(timeout))
        try:
            live = await self.transport.live(self._left(deadline))
            ready = await self.transport.ready(self._left(deadline))
            version = await self.transport.version(self._left(deadline))
            pipelines = {
                name: await self.transport.model_ready(name, self._left(deadline)) for name in PIPELINES
            }
        except (Unavailable, DeadlineExceeded):
            return Status(live=False, ready=False, version=None, pipelines=dict.fromkeys(PIPELINES, False))
        return Status(live, ready, version, pipelines)

    def _left(self, deadline: float) -> float:
        return max(deadline - self._runtime.now(), 0.0)

    def _outage(self, reason: str, tries: int, seconds: float) -> Unavailable:
        count = "1 try" if tries == 1 else f"{tries} tries"
        message = f"{self._address} is unavailable ({count} in {seconds:.1f} s): {reason}"
        return Unavailable(message, tries=tries, seconds=seconds)


def _checked(timeout: float) -> float:
    if not (timeout > 0 and math.isfinite(timeout)):
        raise InvalidInput(f"timeout must be a positive number of seconds, not {timeout!r}")
    return timeout
