"""Waits for requests in flight, which the pipelines report in Triton's metrics."""

import asyncio
import contextlib
import re
import urllib.request

METRICS_TIMEOUT_S = 2.0
POLL_INTERVAL_S = 0.2
_IN_FLIGHT = re.compile(r"^nexus_requests_in_flight\{[^}]*\} (\S+)$", re.MULTILINE)


async def wait_until_drained(metrics_url: str, timeout_s: float) -> None:
    """Return when no pipeline that reports them has a request in flight, or after `timeout_s`.

    Triton must get SIGTERM only afterwards: from then on it refuses its own pipelines every call of a network
    ("Server not ready"), so a fill would end after its current step.
    """
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(_wait(metrics_url), timeout_s)


async def _wait(metrics_url: str) -> None:
    while await asyncio.to_thread(_in_flight, metrics_url) > 0:
        await asyncio.sleep(POLL_INTERVAL_S)


def _in_flight(metrics_url: str) -> float:
    """The number of requests in flight; 0 if there are no metrics, as on a dead server."""
    try:
        with urllib.request.urlopen(metrics_url, timeout=METRICS_TIMEOUT_S) as response:
            return sum(map(float, _IN_FLIGHT.findall(response.read().decode())))
    except OSError:
        return 0
