"""Calls of denoising loops that share a batch, those that are not waited for, and those that need not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field

import numpy as np
import pytest
from nexus_ensembles.triton.batching import PATIENCE_S, StepBatcher

MAX_ROWS = 8


@dataclass
class Execution:
    """Of a batch; `has_next` is whether another waited already when it ended."""

    kind: bool
    rows: int = 0
    calls: list[str] = field(default_factory=list)
    has_next: bool = False


class Network:
    """Runs calls that arrive together as one execution, one at a time.

    A call is named by a letter; the rows of capitals have another shape.
    """

    def __init__(self) -> None:
        self.batcher = StepBatcher({"unet"}, MAX_ROWS)
        self.executions: list[Execution] = []
        self._busy = asyncio.Lock()
        self._queue: dict[asyncio.Task[None], Execution] = {}

    @property
    def groups(self) -> list[str]:
        """The names of each execution's calls, sorted."""
        return ["".join(sorted(execution.calls)) for execution in self.executions]

    async def call(self, name: str, rows: int = 1) -> None:
        sample = np.zeros((rows, 9, 8, 16 if name.isupper() else 8), np.float32)
        async with self.batcher.join("unet", {"sample": sample}):
            fits = [
                task
                for task, execution in self._queue.items()
                if execution.kind == name.isupper() and execution.rows + rows <= MAX_ROWS
            ]
            if fits:
                task, execution = fits[0], self._queue[fits[0]]
            else:
                execution = Execution(name.isupper())
                task = asyncio.create_task(self._execute(execution))
                self._queue[task] = execution
            execution.calls.append(name)
            execution.rows += rows
            await task

    async def _execute(self, execution: Execution) -> None:
        async with self._busy:
            await asyncio.sleep(0)  # all calls that leave together are in
            self._queue = {task: other for task, other in self._queue.items() if other is not execution}
            self.executions.append(execution)
            await asyncio.sleep(0.002)
            execution.has_next = bool(self._queue)

    async def loop(self, name: str, calls: int, rows: int = 1) -> None:
        for _ in range(calls):
            await self.call(name, rows)
            await asyncio.sleep(0)


@pytest.fixture
def network() -> Network:
    return Network()


def run(*loops: Awaitable[None]) -> None:
    async def main() -> None:
        await asyncio.gather(*loops)

    asyncio.run(main())


def test_loops_of_any_length_share_every_execution(network: Network) -> None:
    """But for the very first call, which finds none to wait for."""
    run(network.loop("a", 6), network.loop("b", 2), network.loop("c", 4))
    assert network.groups == ["a", "abc", "abc", "ac", "ac", "a"]


def test_a_late_loop_joins_the_next_batch(network: Network) -> None:
    async def late() -> None:
        await asyncio.sleep(0.001)  # the first call is under way
        await network.loop("b", 2)

    run(network.loop("a", 3), late())
    assert network.groups == ["a", "ab", "ab"]


def test_a_lone_loop_does_not_wait(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_ensembles.triton.batching.PATIENCE_S", 3600)
    run(asyncio.wait_for(network.loop("a", 5), 60))
    assert network.groups == ["a"] * 5


def test_patience_with_a_loop_that_does_not_return_ends(network: Network) -> None:
    """Each of the others goes on; the timer of one round is none of the next."""

    async def all_and_later() -> None:
        await asyncio.gather(*(network.loop(name, calls) for calls, name in enumerate("abcd", 1)))
        await asyncio.sleep(10 * PATIENCE_S)
        await network.call("e")

    run(all_and_later())
    assert network.groups == ["a", "bcd", "bcd", "cd", "d", "e"]


def test_a_failed_call_is_back_as_well(network: Network) -> None:
    async def fail() -> None:
        with pytest.raises(ValueError, match="on purpose"):
            async with network.batcher.join("unet", {"sample": np.zeros((1, 9, 8, 8), np.float32)}):
                raise ValueError("on purpose")

    run(fail(), network.loop("a", 2))
    assert network.groups == ["a", "a"]


def test_shapes_do_not_meet_and_do_not_wait_for_each_other(network: Network) -> None:
    """Loops that arrive by turns A b C d leave as AC and bd, and one shape is queued while the other runs."""
    run(*(network.loop(name, 10) for name in "AbCdEf"))
    assert network.groups[2:] == ["ACE", "bdf"] * 9 + ["CE", "df"]
    assert all(execution.has_next for execution in network.executions[2:-3])


def test_more_rows_than_a_batch_are_groups_of_one_length_that_take_turns(network: Network) -> None:
    """Six loops of two rows, where a batch holds eight: three and three, and the network is never without work."""
    run(*(network.loop(name, 10, rows=2) for name in "abcdef"))
    steady = network.executions[2:-4]
    assert [len(execution.calls) for execution in steady] == [3] * len(steady)
    assert len(steady) >= 14
    assert all(execution.has_next for execution in steady)


def test_a_call_of_more_rows_than_a_batch_leaves_alone(network: Network) -> None:
    """The network itself refuses it."""
    run(network.loop("a", 2, MAX_ROWS + 1), network.loop("b", 2, MAX_ROWS + 1))
    assert all(len(group) == 1 for group in network.groups)


def test_a_shape_that_is_no_longer_called_is_forgotten(network: Network) -> None:
    """Shapes come from callers' sizes, and must not fill the memory."""

    async def main() -> None:
        await network.loop("a", 2)
        assert len(network.batcher._compatible) == 1
        await asyncio.sleep(5 * PATIENCE_S)
        assert not network.batcher._compatible

    run(main())
