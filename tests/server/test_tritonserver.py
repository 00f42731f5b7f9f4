"""Stopping a tritonserver and the processes below it, with test doubles that end at chosen moments."""

from __future__ import annotations

import asyncio
from typing import Any

import psutil
import pytest
from nexus_server import tritonserver
from nexus_server.tritonserver import Tritonserver


class Process:
    """A tritonserver that has ended; or, if `lingers`, that ends by itself just before it is killed."""

    pid = 2**22 + 1  # no process: Linux has none above 2**22

    def __init__(self, *, lingers: bool) -> None:
        self.returncode = None if lingers else 0

    async def wait(self) -> int:
        if self.returncode is None:
            await asyncio.sleep(0.05)
        return 0

    def terminate(self) -> None:
        if self.returncode is not None:
            raise ProcessLookupError

    def kill(self) -> None:
        self.returncode = 1
        raise ProcessLookupError


class Stub:
    """Runs on for `polls` polls, killed or not."""

    pid = Process.pid + 1

    def __init__(self, polls: float) -> None:
        self.polls_left, self.killed = polls, False

    def kill(self) -> None:
        self.killed = True

    def is_running(self) -> bool:
        self.polls_left -= 1
        return self.polls_left >= 0

    def status(self) -> str:
        return str(psutil.STATUS_DISK_SLEEP)


def stop(process: Process, *stubs: Stub) -> None:
    server: Any = process
    processes: Any = stubs
    asyncio.run(Tritonserver(server, "nexus_none_").stop(processes, 0.01))


def test_a_server_that_ends_as_its_timeout_does() -> None:
    """Between the timeout and the kill the process may end by itself."""
    process = Process(lingers=True)
    stop(process)
    assert process.returncode == 1


def test_the_end_of_a_server_is_the_end_of_its_stubs() -> None:
    stub = Stub(polls=3)
    stop(Process(lingers=False), stub)
    assert stub.killed
    assert stub.polls_left < 0


def test_a_stub_that_the_kernel_cannot_end_does_not_hold_it_up(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tritonserver, "_KILL_TIMEOUT_S", 0.05)
    stub = Stub(polls=float("inf"))
    stop(Process(lingers=False), stub)
    assert stub.killed
    assert f"the kernel has not ended {stub.pid}" in capsys.readouterr().out
