"""Aligns the calls of concurrent loops so that they share a network's batches. Knows nothing of Triton.

Triton batches the calls that wait in a network's queue at the same moment, or come within its queue delay: enough for
requests that call a network once. Loops that run side by side reach each of their calls at slightly different moments;
here the early ones wait for the others.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Hashable, Mapping
from contextlib import asynccontextmanager
from functools import partial

from nexus_ensembles.networks import Array

# How long a call waits for stragglers; a loop that has finished does not report it.
PATIENCE_S = 0.02


class StepBatcher:
    """Groups the calls that denoising loops, any number of tasks of one event loop, make step by step.

    A network runs one batch at a time, and calls that come while it is busy wait in its queue. Left alone, two loops
    thus alternate, each queued behind the other, and never share a batch. Here a call that comes while compatible calls
    are running waits for their loops, and leaves with their next calls; a call that is alone leaves at once. Loops of
    more rows than a batch holds are divided into as few groups as hold them, of equal length, which alternate: while
    one group is back in Python the network runs another. A group waits only for the slowest of its own loops, and
    PATIENCE_S wherever a loop has ended. Calls of different networks or row shapes cannot share a batch, so they do not
    meet.

    Usage:

        async with batcher.join("sdxl_unet", inputs):
            response = await call
    """

    def __init__(self, networks: Collection[str], max_rows: int) -> None:
        """`networks` are those whose calls are grouped, of at most `max_rows` rows a batch; other calls never wait."""
        self._networks = networks
        self._max_rows = max_rows
        self._compatible: dict[Hashable, _CompatibleCalls] = {}

    @asynccontextmanager
    async def join(self, network: str, inputs: Mapping[str, Array]) -> AsyncIterator[None]:
        """Enter when a call of `network` may leave; the block is the call. `inputs` begin with a batch axis."""
        if network not in self._networks:
            yield
            return
        # Triton ends a batch where the shape of a row changes.
        key = network, tuple(sorted((name, array.shape[1:]) for name, array in inputs.items()))
        rows = len(next(iter(inputs.values())))
        calls = self._compatible.get(key)
        if not calls:
            # Shapes come from callers' sizes: drop those that are no longer called.
            calls = _CompatibleCalls(self._max_rows, forget=partial(self._compatible.pop, key))
            self._compatible[key] = calls
        await calls.turn(rows)
        try:
            yield
        finally:
            calls.end(rows)


class _CompatibleCalls:
    """The calls that may share a batch; `forget` is called when there are none left."""

    def __init__(self, max_rows: int, forget: Callable[[], object]) -> None:
        self._max_rows = max_rows
        self._forget = forget
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        # The rows of each running call, and of each that has ended and whose loop may be about to call again.
        self._running: list[int] = []
        self._returning: deque[tuple[asyncio.TimerHandle, int]] = deque()

    async def turn(self, rows: int) -> None:
        """Return when a call of `rows` may leave."""
        if self._returning:  # only the number still to come matters, not whose call this is
            self._returning.popleft()[0].cancel()
        leave = asyncio.get_running_loop().create_future()
        self._waiting.append((leave, rows))
        self._release()
        await leave

    def end(self, rows: int) -> None:
        """End a call of `rows`; its loop may call again, within PATIENCE_S."""
        self._running.remove(rows)
        self._returning.append((asyncio.get_running_loop().call_later(PATIENCE_S, self._give_up), rows))

    def _give_up(self) -> None:
        self._returning.popleft()  # all wait equally long: the first timer is the first to ring
        self._release()
        if not (self._waiting or self._running or self._returning):
            self._forget()

    def _release(self) -> None:
        """Let the waiting calls leave as soon as they fill one group."""
        sizes = [*self._running, *(rows for _, rows in self._waiting), *(rows for _, rows in self._returning)]
        groups = -(-sum(sizes) // self._max_rows)
        while self._waiting and len(self._waiting) >= len(sizes) // groups:
            room = self._max_rows
            while self._waiting and (self._waiting[0][1] <= room or room == self._max_rows):
                leave, rows = self._waiting.popleft()
                leave.set_result(None)
                self._running.append(rows)
                room -= rows
