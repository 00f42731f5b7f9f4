"""What differs between blocking and asyncio, so that the rest of the client is written once, as coroutines.

The blocking client runs the same coroutines: over `BlockingRuntime` and `Blocking` they never suspend, so
`finish` takes them from start to end in one step, and `drain` from item to item, without an event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import closing
from typing import Protocol, TypeVar

from ._tensors import Tensors
from ._transport import Transport

T = TypeVar("T")


class Runtime(Protocol):
    """Time and threads."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def compute(self, function: Callable[[], T]) -> T:
        """Run blocking work: files, PNG."""


class BlockingRuntime:
    """Waits and works in the calling thread."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    async def compute(self, function: Callable[[], T]) -> T:
        """Run blocking work here."""
        return function()


class AsyncioRuntime:
    """Keeps the event loop free: waits in it, works in a thread."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def compute(self, function: Callable[[], T]) -> T:
        """Run blocking work in a thread."""
        return await asyncio.to_thread(function)


class Blocking:
    """A blocking transport in the form of an asynchronous one that never suspends."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def infer(self, model: str, inputs: Tensors, timeout: float) -> Tensors:
        """Run one inference; return every output."""
        return self._transport.infer(model, inputs, timeout)

    async def stream(self, model: str, inputs: Tensors, timeout: float) -> AsyncGenerator[Tensors, None]:
        """Run one inference that answers several times; yield the outputs of each answer."""
        with closing(self._transport.stream(model, inputs, timeout)) as answers:
            for outputs in answers:
                yield outputs

    async def live(self, timeout: float) -> bool:
        """Whether the server answers."""
        return self._transport.live(timeout)

    async def ready(self, timeout: float) -> bool:
        """Whether the server takes requests."""
        return self._transport.ready(timeout)

    async def model_ready(self, model: str, timeout: float) -> bool:
        """Whether the server can run this model now."""
        return self._transport.model_ready(model, timeout)

    async def version(self, timeout: float) -> str:
        """The server's version."""
        return self._transport.version(timeout)

    async def close(self) -> None:
        """Drop the connection."""
        self._transport.close()


def finish(awaitable: Awaitable[T]) -> T:
    """Run what never suspends, and return its result."""
    try:
        next(awaitable.__await__())
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("a blocking call suspended")


def drain(stream: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Yield what an asynchronous generator that never suspends yields; closing this closes that."""
    try:
        while True:
            try:
                item = finish(anext(stream))
            except StopAsyncIteration:
                return
            yield item
    finally:
        finish(stream.aclose())
