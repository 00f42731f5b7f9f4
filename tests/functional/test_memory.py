"""The whole compact deployment fits a laptop."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from nexus_client import Client
from nexus_server.local import LocalServer

from tests.functional.support.deployment import PHOTOS, PeakMemory, resident_bytes
from tests.functional.support.photos import ellipse, photo_array, unique_photo

LIMIT = 2.5e9


def test_resident_memory_idle_and_under_eight_clients(server: LocalServer, client: Client) -> None:
    """Every operation has run; then eight clients at once, each on photos of its own."""
    assert resident_bytes(server) < LIMIT
    mask = ellipse(photo_array("astronaut.jpg").shape, (256, 300), (50, 70))

    def work(number: int) -> None:
        photo = unique_photo(1000 + number)
        client.smart_remove(photo, points=[(224, 100)], timeout=300)
        client.cleanup(photo, mask, timeout=300)
        client.remove_background(PHOTOS / "coffee.jpg", timeout=300)

    with PeakMemory(server) as peak, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert peak.bytes < LIMIT
