"""Bounds a pipeline's requests: how many there may be, how many work at once, how long one waits. Knows no Triton."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nexus_ensembles.errors import Overloaded

# A caller who has waited for so long had better try another replica.
LONGEST_WAIT_S = 30.0


class Admission:
    """The queue of one pipeline, which Triton's own would be with `default_queue_policy` (see sdxl_unet's config).

    A request that waits holds its files alone; one at work also holds what they decode to, ten times as much.

    Usage:

        async with admission.place(timeout_s=10):
            ...  # at work
    """

    def __init__(self, name: str, max_in_flight: int, max_at_work: int, show: Callable[[int], None]) -> None:
        """`name` is the pipeline's in refusals; `show` gets the number of requests in flight whenever it changes."""
        self._name = name
        self._max_in_flight = max_in_flight
        self._places = asyncio.Semaphore(max_at_work)
        self._show = show
        self._in_flight = 0
        show(0)

    @asynccontextmanager
    async def place(self, timeout_s: float = 0) -> AsyncIterator[None]:
        """Enter when there is a place to work, in the order of arrival.

        Raises Overloaded at once if `max_in_flight` requests work or wait, and where no place came within `timeout_s`,
        at most LONGEST_WAIT_S; 0 is LONGEST_WAIT_S.
        """
        if self._in_flight >= self._max_in_flight:
            raise Overloaded(f"{self._name} is busy with {self._max_in_flight} requests; try again.")
        self._count(1)
        try:
            wait_s = min(timeout_s or LONGEST_WAIT_S, LONGEST_WAIT_S)
            try:
                await asyncio.wait_for(self._places.acquire(), wait_s)
            except asyncio.TimeoutError:
                raise Overloaded(
                    f"{self._name} is busy: no turn came within {wait_s:g} s; try again."
                ) from None
            try:
                yield
            finally:
                self._places.release()
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        self._in_flight += change
        self._show(self._in_flight)
