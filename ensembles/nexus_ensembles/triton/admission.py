"""Bounds a pipeline's requests: how many there may be, how many work at once, how long one waits. Knows no Triton."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from nexus_ensembles.errors import Cancelled, Overloaded

# After so long a caller should try another replica.
MAX_WAIT_S = 30.0
# How often a waiting request checks whether its caller has left.
POLL_INTERVAL_S = 1.0


class Admission:
    """The queue of one pipeline, which Triton's own would be with `default_queue_policy` (see sdxl_unet's config).

    A request that waits holds its files alone; one at work also holds what they decode to, ten times as much.

    Usage:

        async with admission.place(request.is_cancelled, timeout_s=10):
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
    async def place(self, has_left: Callable[[], bool], timeout_s: float = 0) -> AsyncIterator[None]:
        """Enter when there is a place to work, in the order of arrival.

        Raises Overloaded at once if `max_in_flight` requests work or wait, and where no place came within `timeout_s`,
        at most MAX_WAIT_S; 0 is MAX_WAIT_S. Raises Cancelled where the caller `has_left` while it waited.
        """
        if self._in_flight >= self._max_in_flight:
            raise Overloaded(f"{self._name} is busy with {self._max_in_flight} requests; try again.")
        self._count(1)
        try:
            await self._turn(has_left, min(timeout_s or MAX_WAIT_S, MAX_WAIT_S))
            try:
                if has_left():
                    raise Cancelled("the request was cancelled.")
                yield
            finally:
                self._places.release()
        finally:
            self._count(-1)

    async def _turn(self, has_left: Callable[[], bool], wait_s: float) -> None:
        turn = asyncio.create_task(self._places.acquire())
        clock = asyncio.get_running_loop().time
        end = clock() + wait_s
        while not (await asyncio.wait({turn}, timeout=min(POLL_INTERVAL_S, max(0, end - clock()))))[0]:
            if has_left():  # its place in the queue is free for another
                turn.cancel()
                raise Cancelled("the request was cancelled.")
            if clock() >= end:
                turn.cancel()
                raise Overloaded(f"{self._name} is busy: no turn came within {wait_s:g} s; try again.")

    def _count(self, change: int) -> None:
        self._in_flight += change
        self._show(self._in_flight)
