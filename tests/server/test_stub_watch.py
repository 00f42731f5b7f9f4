"""StubWatch on real processes below a stand-in for tritonserver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from nexus_server.process import descendants
from nexus_server.stub_watch import STOPPED_POLLS, StubWatch

# Starts a stub with its arguments, prints the stub's pid, and does not reap it, as tritonserver does not.
PARENT = """
import subprocess, sys, time
print(subprocess.Popen([sys.executable, *sys.argv[1:]]).pid, flush=True)
time.sleep(600)
"""

Start = Callable[[str], tuple[int, psutil.Process]]
SLEEP = "import time; time.sleep(600)"


def until(condition: Callable[[], object]) -> None:
    """Wait for the kernel; the suite's timeout is the limit."""
    while not condition():
        time.sleep(0.01)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a tritonserver whose one stub, of the model lama, runs the given program."""
    parents = []

    def run(program: str) -> tuple[int, psutil.Process]:
        stub = tmp_path / "models/lama/1/model.py"
        stub.parent.mkdir(parents=True)
        stub.write_text(program)
        command = [sys.executable, "-c", PARENT, str(stub)]
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        parents.append(parent)
        assert parent.stdout is not None
        stub_process = psutil.Process(int(parent.stdout.readline()))
        # Popen returns when the kernel closes its pipe in exec, a moment before the command line exists.
        until(stub_process.cmdline)
        return parent.pid, stub_process

    yield run
    for parent in parents:
        for process in descendants(parent.pid):
            process.kill()
        parent.kill()
        parent.communicate()


def test_a_dead_process_is_named(start: Start) -> None:
    server, stub = start(SLEEP)
    watch = StubWatch(server)
    watch.refresh()
    assert list(watch.stubs) == [stub]
    assert watch.failures() == []
    stub.kill()
    until(watch.failures)
    assert watch.failures() == ["the process of lama died"]
    watch.refresh()
    assert watch.failures() == ["the process of lama died"]  # its name is remembered


def test_a_process_that_is_dead_at_the_start_is_found(start: Start) -> None:
    server, stub = start(SLEEP)
    stub.kill()
    until(lambda: stub.status() == psutil.STATUS_ZOMBIE)
    watch = StubWatch(server)
    watch.refresh()
    assert watch.failures() == ["the process of an unknown model died"]


def test_the_stubs_of_a_dead_server_are_remembered(start: Start) -> None:
    server, stub = start(SLEEP)
    watch = StubWatch(server)
    watch.refresh()
    os.kill(server, signal.SIGKILL)
    until(lambda: psutil.Process(server).status() == psutil.STATUS_ZOMBIE)
    watch.refresh()
    assert watch.stubs == {stub: "lama"}
    stub.kill()


def test_a_process_that_stays_stopped_is_named(start: Start) -> None:
    server, stub = start(SLEEP)
    watch = StubWatch(server)
    watch.refresh()
    stub.suspend()
    until(lambda: stub.status() == psutil.STATUS_STOPPED)
    assert watch.is_stopped("lama")
    assert not watch.is_stopped("u2net")
    failures = [watch.failures() for _ in range(STOPPED_POLLS)]
    assert failures == [*([[]] * (STOPPED_POLLS - 1)), ["the process of lama is stopped"]]
    stub.resume()
    until(lambda: stub.status() != psutil.STATUS_STOPPED)
    assert not watch.is_stopped("lama")
    assert watch.failures() == []
    stub.suspend()
    until(lambda: stub.status() == psutil.STATUS_STOPPED)
    assert watch.failures() == []  # the count starts again


def test_a_stopped_server_is_named(start: Start) -> None:
    server, _ = start(SLEEP)
    watch = StubWatch(server)
    watch.refresh()
    os.kill(server, signal.SIGSTOP)
    until(lambda: psutil.Process(server).status() == psutil.STATUS_STOPPED)
    for _ in range(STOPPED_POLLS - 1):
        assert watch.failures() == []
    assert watch.failures() == ["the process of tritonserver is stopped"]


def test_work_shows_in_the_cpu_of_the_model_that_does_it(start: Start) -> None:
    server, _ = start("while True: pass")
    watch = StubWatch(server)
    watch.refresh()
    until(lambda: watch.cpu_s({"lama", "cleanup"}) > 0.3)
    before = watch.cpu_s({"cleanup"})
    until(lambda: watch.cpu_s({"lama"}) > 0.6)
    assert watch.cpu_s({"cleanup"}) - before < 0.05  # it has no stub, so tritonserver counts, which sleeps


def test_a_server_that_is_gone() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert descendants(process.pid) == []
    watch = StubWatch(process.pid)
    watch.refresh()
    assert watch.stubs == {}
    with pytest.raises(psutil.NoSuchProcess):
        watch.failures()
