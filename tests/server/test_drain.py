"""Waiting for requests in flight."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from nexus_server.drain import wait_until_drained
from nexus_server.local import free_ports


class Metrics:
    """A metrics endpoint that serves each of `pages` once, and then the last again and again."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.read = 0
        metrics = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = metrics.pages[min(metrics.read, len(metrics.pages) - 1)]
                metrics.read += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(page.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"


@pytest.fixture
def metrics() -> Iterator[Metrics]:
    made = Metrics()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


def page(*in_flight: int) -> str:
    lines = [f'nexus_requests_in_flight{{pipeline="{n}"}} {count}' for n, count in enumerate(in_flight)]
    return "\n".join(
        ["# TYPE nexus_requests_in_flight gauge", 'nv_inference_count{model="lama"} 9', *lines, ""]
    )


def test_it_waits_for_every_pipeline(metrics: Metrics) -> None:
    metrics.pages = [page(0, 3), page(1, 1), page(1, 0), page(0, 0)]
    asyncio.run(wait_until_drained(metrics.url, 60))
    assert metrics.read == 4


def test_the_wait_is_limited(metrics: Metrics) -> None:
    metrics.pages = [page(1)]
    asyncio.run(wait_until_drained(metrics.url, 0.5))
    assert metrics.read >= 1


@pytest.mark.parametrize("text", ["", page(), page(0)])
def test_there_may_be_nothing_to_wait_for(metrics: Metrics, text: str) -> None:
    metrics.pages = [text]
    asyncio.run(wait_until_drained(metrics.url, 60))
    assert metrics.read == 1


def test_a_dead_server_is_drained() -> None:
    (port,) = free_ports(1)
    asyncio.run(wait_until_drained(f"http://127.0.0.1:{port}/metrics", 60))
