"""More requests than a pipeline admits: each is answered or refused at once with a typed error, and none hangs."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
import tritonclient.grpc as grpc
from nexus_client import Client, Segmentation, Unavailable
from nexus_server.local import LocalServer
from tritonclient.utils import InferenceServerException

from tests.functional.support.deployment import MODELS, ROOT, in_flight, subset
from tests.functional.support.fills import tensors
from tests.functional.support.photos import unique_photo

CLICK = [(256, 300)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A segment that admits three requests, of which one works."""
    models = subset(tmp_path_factory.mktemp("overload") / "models", "sam_encoder", "sam_decoder")
    shutil.copytree(MODELS / "segment", models / "segment")
    config = models / "segment/config.pbtxt"
    text = config.read_text()
    for key, value in (("max_in_flight", 3), ("max_at_work", 1)):
        text, count = re.subn(rf'("{key}" value {{ string_value: )"\d+"', rf'\1"{value}"', text)
        assert count == 1
    config.write_text(text)
    with LocalServer(models, ROOT / "build/overload-server.log") as running:
        yield running


def wait_for(server: LocalServer, requests: int) -> None:
    deadline = time.monotonic() + 60
    while in_flight(server, "segment") != requests:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def busy(server: LocalServer, photos: range) -> Iterator[list[Future[Segmentation]]]:
    """A click on each of new photos, all of them admitted, one at work."""
    with Client(server.url) as client, ThreadPoolExecutor(len(photos)) as pool:
        clicks = [pool.submit(client.segment, unique_photo(number), CLICK) for number in photos]
        wait_for(server, len(photos))
        yield clicks
        for click in clicks:
            assert click.result().mask.any()


def test_one_too_many_is_refused_and_succeeds_on_another_try(server: LocalServer) -> None:
    with (
        busy(server, range(400, 403)),
        Client(server.url, retries=None) as client,
        pytest.raises(Unavailable, match=r"segment is busy with 3 requests; try again\."),
    ):
        client.segment(unique_photo(403), CLICK)
    with Client(server.url) as client, ThreadPoolExecutor(8) as pool:
        clicks = [pool.submit(client.segment, unique_photo(number), CLICK) for number in range(404, 412)]
        assert all(click.result().mask.any() for click in clicks)
    wait_for(server, 0)


def test_a_request_waits_no_longer_than_it_asks(server: LocalServer) -> None:
    """By Triton's own parameter `timeout`, in microseconds."""
    inputs = tensors(image=unique_photo(420))
    with (
        busy(server, range(421, 423)),
        contextlib.closing(grpc.InferenceServerClient(server.url)) as triton,
        pytest.raises(InferenceServerException, match=r"no turn came within 0\.001 s") as caught,
    ):
        triton.infer("segment", inputs, timeout=1000)
    assert caught.value.status() == "StatusCode.UNAVAILABLE"


def test_a_stopped_server_answers_what_it_has_admitted(server: LocalServer) -> None:
    """Those that wait for their turn, too. The last test of this server."""
    with busy(server, range(430, 433)):
        server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(60) == 0
