"""Time and threads, blocking and asyncio, so that the rest of the client is written once, as coroutines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Runtime(Protocol):
    """How a client waits and where it works."""

    def now(self) -> float:
        """Seconds on a monotonic clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def compute(self, function: Callable[[], T]) -> T:
        """Run blocking work: files, PNG."""


class BlockingRuntime(Runtime):
    """Waits and works in the calling thread."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    async def compute(self, function: Callable[[], T]) -> T:
        """Run blocking work here."""
        return function()


class AsyncioRuntime(Runtime):
    """Keeps the event loop free: waits in it, works in a thread."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    async def compute(self, function: Callable[[], T]) -> T:
        """Run blocking work in a thread."""
        return await asyncio.to_thread(function)
