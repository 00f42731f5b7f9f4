"""Lets the calls of loops that run side by side leave together. Knows nothing of Triton or of networks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# How long those who are back wait for one who is not: its loop may have ended, and says nothing of that.
PATIENCE_S = 0.02


class Departures:
    """The calls of one network, from any number of tasks of one event loop, in groups.

    A network runs one batch at a time, and what comes while it is busy waits in its queue. Left alone, two loops thus
    take turns for ever, each in the other's shadow, and never share a batch. Here a call that comes while others are
    under way waits until those are back, and leaves with what their loops call next. That costs it nothing but the
    Python between two steps: the network was busy. A call that is alone leaves at once.

    Usage:

        async with departures.together():
            response = await call
    """

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []
        self._under_way = 0
        # Of the last group, those that are back; they may be about to call again.
        self._back = 0
        self._end_of_patience: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Leave with the others, and be waited for until the block ends."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        if self._under_way == 0 and len(self._waiting) >= self._back:
            self._depart()
        await turn
        try:
            yield
        finally:
            self._under_way -= 1
            self._back += 1
            if self._under_way == 0:
                loop = asyncio.get_running_loop()
                self._end_of_patience = loop.call_later(PATIENCE_S, self._depart)

    def _depart(self) -> None:
        if self._end_of_patience:
            self._end_of_patience.cancel()
        self._under_way, self._back = len(self._waiting), 0
        for turn in self._waiting:
            turn.set_result(None)
        self._waiting = []
