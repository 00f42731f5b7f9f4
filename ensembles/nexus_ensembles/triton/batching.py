"""Lets the calls of loops that run side by side leave together. Knows nothing of Triton or of networks."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from functools import partial

# How long those who are back wait for one who is not: its loop may have ended, and says nothing of that.
PATIENCE_S = 0.02


class Departures:
    """The calls of one network, from any number of tasks of one event loop, in groups.

    A network runs one batch at a time, and what comes while it is busy waits in its queue. Left alone, two loops thus
    take turns for ever, each in the other's shadow, and never share a batch. Here a call that comes while others of
    its kind are under way waits for their loops, and leaves with what those call next; a call that is alone leaves at
    once. Loops of more rows than a batch holds are divided into as few groups as hold them, of one length, which take
    turns: while one group is back in Python the network runs another. What one group alone waits for is the slowest
    of its loops, and PATIENCE_S wherever a loop has ended. Calls that cannot share a batch do not meet.

    Usage:

        async with departures.together(shapes, rows):
            response = await call
    """

    def __init__(self, max_rows: int) -> None:
        """`max_rows` is what a batch holds."""
        self._max_rows = max_rows
        self._kinds: dict[Hashable, _Calls] = {}

    @asynccontextmanager
    async def together(self, kind: Hashable, rows: int) -> AsyncIterator[None]:
        """Leave with others of `kind`, with which the `rows` of this call may share a batch, until the block ends."""
        calls = self._kinds.get(kind)
        if not calls:
            # Kinds come from callers' sizes: what nobody calls any more must not stay.
            calls = self._kinds[kind] = _Calls(self._max_rows, forget=partial(self._kinds.pop, kind))
        await calls.turn(rows)
        try:
            yield
        finally:
            calls.end(rows)


class _Calls:
    """Calls of one kind; `forget` is called when there are none left."""

    def __init__(self, max_rows: int, forget: Callable[[], object]) -> None:
        self._max_rows = max_rows
        self._forget = forget
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        # The rows of each call under way, and of each that has ended and whose loop may be about to call again.
        self._under_way: list[int] = []
        self._back: deque[tuple[asyncio.TimerHandle, int]] = deque()

    async def turn(self, rows: int) -> None:
        """Return when a call of `rows` may leave."""
        if self._back:  # whose it is does not matter, only how many are still to come
            self._back.popleft()[0].cancel()
        leave = asyncio.get_running_loop().create_future()
        self._waiting.append((leave, rows))
        self._depart()
        await leave

    def end(self, rows: int) -> None:
        """A call of `rows` has ended; its loop may call again, within PATIENCE_S."""
        self._under_way.remove(rows)
        self._back.append((asyncio.get_running_loop().call_later(PATIENCE_S, self._give_up), rows))

    def _give_up(self) -> None:
        self._back.popleft()  # all wait equally long: the first timer is the first to ring
        self._depart()
        if not (self._waiting or self._under_way or self._back):
            self._forget()

    def _depart(self) -> None:
        """Let those who wait leave as soon as they are one group."""
        sizes = [*self._under_way, *(rows for _, rows in self._waiting), *(rows for _, rows in self._back)]
        groups = -(-sum(sizes) // self._max_rows)
        while self._waiting and len(self._waiting) >= len(sizes) // groups:
            room = self._max_rows
            while self._waiting and (self._waiting[0][1] <= room or room == self._max_rows):
                leave, rows = self._waiting.popleft()
                leave.set_result(None)
                self._under_way.append(rows)
                room -= rows
