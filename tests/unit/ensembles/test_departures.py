"""Calls that leave together, those that are not waited for, and those that need not wait."""

from __future__ import annotations

import asyncio

import pytest
from nexus_ensembles.departures import PATIENCE_S, Departures


class Network:
    """Runs what arrives together as one execution, each `seconds` long and one at a time."""

    def __init__(self, seconds: float = 0.002) -> None:
        self.departures = Departures()
        self.executions: list[list[str]] = []
        self._seconds = seconds
        self._busy = asyncio.Lock()

    async def call(self, name: str) -> None:
        async with self.departures.together():
            if not self.executions or self.executions[-1] is not self._open:
                self._open: list[str] = []
                self.executions.append(self._open)
            mine = self._open
            mine.append(name)
            await asyncio.sleep(0)  # all who leave together are in
            async with self._busy:
                if mine is self._open:
                    self._open = []
                await asyncio.sleep(self._seconds)

    async def loop(self, name: str, calls: int) -> None:
        for _ in range(calls):
            await self.call(name)
            await asyncio.sleep(0)


@pytest.fixture
def network() -> Network:
    return Network()


def test_loops_of_any_length_share_every_execution(network: Network) -> None:
    """But for the very first call, which finds nobody to wait for."""

    async def main() -> None:
        await asyncio.gather(*(network.loop(name, calls) for name, calls in (("a", 6), ("b", 2), ("c", 4))))

    asyncio.run(main())
    assert ["".join(sorted(names)) for names in network.executions] == ["a", "abc", "abc", "ac", "ac", "a"]


def test_who_comes_late_joins_the_next(network: Network) -> None:
    async def main() -> None:
        first = asyncio.create_task(network.loop("a", 3))
        await asyncio.sleep(0.001)  # its first call is under way
        await asyncio.gather(first, network.loop("b", 2))

    asyncio.run(main())
    assert ["".join(sorted(names)) for names in network.executions] == ["a", "ab", "ab"]


def test_who_is_alone_waits_for_nobody(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nexus_ensembles.departures.PATIENCE_S", 3600)

    async def main() -> None:
        await asyncio.wait_for(network.loop("a", 5), 60)

    asyncio.run(main())
    assert network.executions == [["a"]] * 5


def test_patience_with_who_does_not_return_ends(network: Network) -> None:
    """Each of the others goes on; the timer of one round is none of the next."""

    async def main() -> None:
        await asyncio.gather(*(network.loop(str(calls), calls) for calls in (1, 2, 3, 4)))
        await asyncio.sleep(2 * PATIENCE_S)
        await network.call("later")

    asyncio.run(main())
    assert [len(names) for names in network.executions] == [1, 3, 3, 2, 1, 1]


def test_a_failed_call_is_back_as_well(network: Network) -> None:
    async def fail() -> None:
        async with network.departures.together():
            raise ValueError

    async def main() -> None:
        results = await asyncio.gather(fail(), network.loop("a", 2), return_exceptions=True)
        assert isinstance(results[0], ValueError)

    asyncio.run(main())
    assert network.executions == [["a"], ["a"]]
