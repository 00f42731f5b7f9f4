"""A fill whose caller has gone ends with its current step, and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from nexus_client import Client, DeadlineExceeded, FillProgress
from nexus_server.local import LocalServer

from tests.functional.support.deployment import processes
from tests.functional.support.fills import NETWORKS, PHOTO, PROMPT, SIZE, SLOW_STEP_S, Meter, Switches, hole

MASK = hole(*SIZE)
STEPS = 50
LAST_READ = 3  # the step after which the caller cancels
DELAY_STEPS = 3  # steps by which a busy machine may delay the cancellation

WARM_UP = 32
# A leaked fill would hold the decoded photo, its PNG and its latents, 1 MB, so a hundred of them 100 MB. The arenas of
# glibc and onnxruntime vary by a tenth of that, depending on which requests meet.
MEMORY_TOLERANCE = 20 * 2**20
# A leaked request would hold its files and tensors in shared memory, 100 KB, so a hundred of them 10 MB. A stub's
# region grows by megabytes to the most that was ever held at one time, and does not shrink.
SHARED_TOLERANCE = 4 * 2**20
# A leak grows in every round. Memory that is kept once, such as arenas' room for the widest batch so far, grows in one
# round only, which may come after the warm-up (140 MB were measured).
ROUNDS = 3
SHARED = "shared memory"

# A caller in a process of its own, which prints each step that it has read.
CALLER = """
import sys
import time
import numpy as np
from nexus_client import Client
mask = np.zeros((400, 600), bool)
mask[100:200, 100:200] = True
for event in Client(sys.argv[1]).generative_fill_stream(sys.argv[2], mask, "a cat", steps=50, strength=1.0):
    print(event.step, flush=True)
"""


def events(client: Client, **options: Any) -> Any:
    return client.generative_fill_stream(PHOTO, MASK, PROMPT, steps=STEPS, strength=1.0, **options)


def read(stream: Any) -> None:
    """Read the first LAST_READ steps."""
    for step in range(1, LAST_READ + 1):
        event = next(stream)
        assert isinstance(event, FillProgress)
        assert event.step == step


def test_a_cancelled_fill_ends_with_its_step(slow: Client, meter: Meter, switches: Switches) -> None:
    """And a fill that shares its executions continues."""
    with ThreadPoolExecutor(1) as pool:
        neighbour = pool.submit(
            slow.generative_fill, PHOTO, MASK, PROMPT, steps=LAST_READ + 4, strength=1.0, seed=3
        )
        with closing(events(slow)) as stream:
            read(stream)
        image = neighbour.result().image
    # the neighbour's own calls, and those of the cancelled fill up to the one that was in flight
    assert meter.settled().calls <= LAST_READ + 4 + LAST_READ + 1 + DELAY_STEPS
    with switches.fast():
        again = slow.generative_fill(PHOTO, MASK, PROMPT, steps=LAST_READ + 4, strength=1.0, seed=3)
    assert again.image.tobytes() == image.tobytes()


def test_a_deadline_ends_the_fill(slow: Client, meter: Meter) -> None:
    timeout = 4.5 * SLOW_STEP_S
    with pytest.raises(DeadlineExceeded):
        list(events(slow, timeout=timeout))
    assert meter.calls_from_now() <= 1
    assert meter.work().calls < STEPS


@pytest.mark.usefixtures("slow")
def test_a_caller_that_dies_ends_its_fill(meter: Meter, faulty_server: LocalServer) -> None:
    command = [sys.executable, "-c", CALLER, faulty_server.url, str(PHOTO)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        assert caller.stdout is not None
        for step in range(1, LAST_READ + 1):
            assert caller.stdout.readline() == f"{step}\n"
        caller.kill()
    assert meter.calls_from_now() <= 1
    assert meter.work().calls < STEPS


def test_a_hundred_cancelled_fills_leave_nothing(client: Client, server: LocalServer) -> None:
    """Neither in memory nor in shared memory, after a warm-up that fills the arenas."""

    def cancel(step: int) -> None:
        with closing(events(client)) as stream:
            for _ in range(1 + step % 2):
                next(stream)

    grown = []
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(cancel, range(WARM_UP)))
        before = used_bytes(server)
        for _ in range(ROUNDS):
            list(pool.map(cancel, range(100)))
            after = used_bytes(server)
            grown.append({name: after[name] - before.get(name, 0) for name in after})
            shared = grown[-1][SHARED]
            if sum(grown[-1].values()) - shared < MEMORY_TOLERANCE and shared <= SHARED_TOLERANCE:
                return
            before = after
    raise AssertionError(f"bytes that a hundred cancelled fills left, by process: {grown}")


def used_bytes(server: LocalServer) -> dict[str, int]:
    """The unique memory of tritonserver and the fill's stubs, by process, and the server's shared memory."""
    time.sleep(1)  # the last cancelled fills end their step
    used = {}
    for process in processes(server)[1:]:
        command = " ".join(process.cmdline())
        for name in ("bin/tritonserver", "generative_fill", *NETWORKS):
            if name in command:
                used[f"{name} {process.pid}"] = process.memory_full_info().uss
    regions = Path("/dev/shm").glob(f"nexus_{server.process.pid}_*")
    return used | {SHARED: sum(region.stat().st_blocks * 512 for region in regions)}
