"""What is under way in the pipelines, as they say by Triton's metrics."""

from __future__ import annotations

import asyncio
import contextlib
import re
import urllib.request

METRICS_TIMEOUT_S = 2.0
LOOK_S = 0.2
_IN_FLIGHT = re.compile(r"^nexus_requests_in_flight\{[^}]*\} (\S+)$", re.MULTILINE)


async def drained(metrics_url: str, timeout_s: float) -> None:
    """Return when no pipeline that counts them has a request under way, or after `timeout_s`.

    From the moment that it is told to stop, Triton refuses its own pipelines every further call of a network
    ("Server not ready"), so that a fill would end after the step under way.
    """
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_wait(metrics_url), timeout_s)


async def _wait(metrics_url: str) -> None:
    while await asyncio.to_thread(_in_flight, metrics_url) > 0:
        await asyncio.sleep(LOOK_S)


def _in_flight(metrics_url: str) -> float:
    """The number of requests under way; none where there are no metrics, as on a server that is dead."""
    try:
        with urllib.request.urlopen(metrics_url, timeout=METRICS_TIMEOUT_S) as response:
            return sum(map(float, _IN_FLIGHT.findall(response.read().decode())))
    except OSError:
        return 0
