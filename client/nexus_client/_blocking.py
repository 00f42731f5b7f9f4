"""Runs the client's coroutines without an event loop.

Over `BlockingRuntime` and `TransportAdapter` they never suspend, so `finish` runs one from start to end in a single
step, and `drain` a generator from item to item.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Generator
from contextlib import closing
from typing import TypeVar

from ._tensors import Tensors
from ._transport import Transport

T = TypeVar("T")


class TransportAdapter:
    """A blocking transport with the methods of an asynchronous one, which never suspend."""

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
    """Run an awaitable that never suspends; return its result."""
    try:
        next(awaitable.__await__())
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise RuntimeError("a blocking call suspended")


def drain(stream: AsyncGenerator[T, None]) -> Generator[T, None, None]:
    """Iterate over an asynchronous generator that never suspends; closing the one closes the other."""
    try:
        while True:
            try:
                item = finish(anext(stream))
            except StopAsyncIteration:
                return
            yield item
    finally:
        finish(stream.aclose())
