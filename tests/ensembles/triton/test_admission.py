"""Who is admitted, who waits, and who is refused."""

from __future__ import annotations

import asyncio

import pytest
from nexus_ensembles.errors import Cancelled, Overloaded
from nexus_ensembles.triton import admission
from nexus_ensembles.triton.admission import Admission

IN_FLIGHT, AT_WORK = 5, 2


class Visitors:
    """Requests, each named by a letter, that work until they are let go."""

    def __init__(self) -> None:
        self.shown: list[int] = []
        self.admission = Admission("cleanup", IN_FLIGHT, AT_WORK, self.shown.append)
        self.at_work: list[str] = []
        self.gates: dict[str, asyncio.Event] = {}
        self.left: set[str] = set()

    def enter(self, name: str, timeout_s: float = 0) -> asyncio.Task[None]:
        self.gates[name] = asyncio.Event()
        return asyncio.create_task(self._work(name, timeout_s))

    async def _work(self, name: str, timeout_s: float) -> None:
        async with self.admission.place(lambda: name in self.left, timeout_s):
            self.at_work.append(name)
            await self.gates[name].wait()
            self.at_work.remove(name)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_places_are_given_in_the_order_of_arrival() -> None:
    async def main() -> None:
        visitors = Visitors()
        tasks = [visitors.enter(name) for name in "abcd"]
        await settle()
        assert visitors.at_work == ["a", "b"]
        visitors.gates["b"].set()
        await settle()
        assert visitors.at_work == ["a", "c"]
        for gate in visitors.gates.values():
            gate.set()
        await asyncio.gather(*tasks)
        assert visitors.shown == [0, 1, 2, 3, 4, 3, 2, 1, 0]

    asyncio.run(main())


def test_one_more_is_refused_at_once_and_takes_no_place() -> None:
    async def main() -> None:
        visitors = Visitors()
        tasks = [visitors.enter(name) for name in "abcde"]
        await settle()
        with pytest.raises(Overloaded, match=r"^cleanup is busy with 5 requests; try again\.$"):
            await asyncio.wait_for(visitors.enter("f"), 5)
        visitors.gates["a"].set()
        await tasks[0]
        late = visitors.enter("f")
        await settle()
        assert not late.done()
        for gate in visitors.gates.values():
            gate.set()
        await asyncio.gather(*tasks, late)

    asyncio.run(main())


def test_a_caller_who_has_left_leaves_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its place in it is free for another at once, not when its turn has come."""
    monkeypatch.setattr(admission, "POLL_INTERVAL_S", 0.01)

    async def main() -> None:
        visitors = Visitors()
        tasks = {name: visitors.enter(name) for name in "abcde"}
        await settle()
        visitors.left.add("c")
        with pytest.raises(Cancelled):
            await tasks.pop("c")
        tasks["f"] = visitors.enter("f")
        visitors.gates["a"].set()
        await tasks["a"]
        await settle()
        assert visitors.at_work == ["b", "d"]
        for gate in visitors.gates.values():
            gate.set()
        await asyncio.gather(*tasks.values())

    asyncio.run(main())


@pytest.mark.parametrize(
    ("asked_s", "longest_s", "waited"), [(0.01, 30, "0.01"), (0, 0.02, "0.02"), (9, 0.03, "0.03")]
)
def test_a_wait_ends_with_the_request_s_time_or_ours(
    monkeypatch: pytest.MonkeyPatch, asked_s: float, longest_s: float, waited: str
) -> None:
    monkeypatch.setattr(admission, "MAX_WAIT_S", longest_s)

    async def main() -> None:
        visitors = Visitors()
        tasks = [visitors.enter(name) for name in "ab"]
        await settle()
        with pytest.raises(
            Overloaded, match=rf"^cleanup is busy: no turn came within {waited} s; try again\.$"
        ):
            await visitors.enter("c", asked_s)
        after = visitors.enter("d")  # the one that left is no longer in the queue
        visitors.gates["a"].set()
        await settle()
        assert visitors.at_work == ["b", "d"]
        for gate in visitors.gates.values():
            gate.set()
        await asyncio.gather(*tasks, after)
        assert visitors.shown[-1] == 0

    asyncio.run(main())
