"""SDXL out of memory: SD 1.5 paints with a notice, SDXL comes back; if both are out, the caller gets OutOfMemory."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator

import pytest
from nexus_client import Client, FillProgress, GenerativeFill, OutOfMemory
from nexus_server.local import LocalServer

from tests.functional.support.fills import COOL_DOWN_S, PHOTO, PROMPT, SIZE, TIERS, Switches, hole

MASK = hole(*SIZE)
STEPS = 10  # of a fill that runs out of memory after the second
FALLEN_BACK = "the device is out of memory for sdxl, so sd15 painted this."


@pytest.fixture
def faulty(faulty_server: LocalServer) -> Iterator[Client]:
    with Client(faulty_server.url) as client:
        yield client


def painter(client: Client) -> tuple[str, bool]:
    """The tier that paints now, and whether the answer has a notice that it replaces another."""
    fill = client.generative_fill(PHOTO, MASK, PROMPT, steps=2, strength=1.0)
    return fill.model, FALLEN_BACK in fill.notices


def recover(client: Client) -> None:
    """Wait until SDXL paints again; the cool-down doubles with each failed probe."""
    deadline = time.monotonic() + 60 * COOL_DOWN_S
    while painter(client) != ("sdxl", False):
        assert time.monotonic() < deadline, "sdxl did not come back"
        time.sleep(COOL_DOWN_S / 4)


def metrics(server: LocalServer) -> dict[str, float]:
    """Generative fill's own metrics by name and labels, once none is in flight: that ends after the answer."""
    while True:
        with urllib.request.urlopen(server.metrics_url) as response:
            lines = response.read().decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("nexus_")]
        values = {name: float(value) for name, value in pairs}
        if values['nexus_requests_in_flight{pipeline="generative_fill"}'] == 0:
            return values
        time.sleep(0.05)


def test_sd15_takes_over_and_sdxl_comes_back(
    faulty: Client, faulty_server: LocalServer, switches: Switches
) -> None:
    assert painter(faulty) == ("sdxl", False)
    before = metrics(faulty_server)
    with switches.full("sdxl"):
        *steps, fill = faulty.generative_fill_stream(PHOTO, MASK, PROMPT, steps=4, strength=1.0)
        assert [event.step for event in steps if isinstance(event, FillProgress)] == [1, 2, 3, 4]
        assert isinstance(fill, GenerativeFill)
        assert (fill.model, fill.image.size) == ("sd15", SIZE)
        assert FALLEN_BACK in fill.notices
        assert painter(faulty) == ("sd15", True)  # the breaker is open: not tried
        now = metrics(faulty_server)
    assert {name: now[name] - before[name] for name in now if now[name] != before[name]} == {
        'nexus_fills_total{model="sd15",outcome="ok"}': 2,
        'nexus_network_out_of_memory_total{network="sdxl_unet"}': 1,
        'nexus_fill_tier_left_out{model="sdxl"}': 1,
    }
    recover(faulty)
    assert metrics(faulty_server)['nexus_fill_tier_left_out{model="sdxl"}'] == 0


def test_a_fill_that_runs_out_of_memory_midway_starts_again(faulty: Client, switches: Switches) -> None:
    with switches.slow():
        stream = faulty.generative_fill_stream(PHOTO, MASK, PROMPT, steps=STEPS, strength=1.0)
        begun = [next(stream), next(stream)]
        with switches.full("sdxl"):
            *others, fill = stream
    seen = [event.step for event in [*begun, *others] if isinstance(event, FillProgress)]
    # SDXL may have taken a few more steps before the fault.
    assert seen == [*range(1, len(seen) - STEPS + 1), *range(1, STEPS + 1)]
    assert isinstance(fill, GenerativeFill)
    assert (fill.model, FALLEN_BACK in fill.notices) == ("sd15", True)
    recover(faulty)


def test_no_tier_has_memory(faulty: Client, faulty_server: LocalServer, switches: Switches) -> None:
    name = 'nexus_fills_total{model="none",outcome="out_of_memory"}'
    before = metrics(faulty_server)[name]
    with switches.full(*TIERS), pytest.raises(OutOfMemory, match=r"^out of memory: [^/]*\.$"):
        faulty.generative_fill(PHOTO, MASK, PROMPT, steps=2, strength=1.0)
    assert metrics(faulty_server)[name] == before + 1  # the error is final: no retry
    recover(faulty)
