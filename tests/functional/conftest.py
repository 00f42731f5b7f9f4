"""One real Triton for all functional tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
import tritonclient.grpc as grpc
from nexus_client import Client
from nexus_server.local import LocalServer

from tests.functional.support.deployment import MODELS, ROOT
from tests.functional.support.fills import Meter, Switches, faulty_repository


@pytest.fixture(scope="session")
def server() -> Iterator[LocalServer]:
    """The whole compact deployment on free loopback ports."""
    with LocalServer(MODELS, ROOT / "build/test-server.log") as running:
        yield running


@pytest.fixture
def client(server: LocalServer) -> Iterator[Client]:
    with Client(server.url) as connected:
        yield connected


@pytest.fixture
def triton(server: LocalServer) -> Iterator[grpc.InferenceServerClient]:
    """Triton's own client: raw tensors and statistics."""
    with contextlib.closing(grpc.InferenceServerClient(server.url)) as connected:
        yield connected


@pytest.fixture(scope="session")
def switches(tmp_path_factory: pytest.TempPathFactory) -> Switches:
    """The UNets of `faulty_server`."""
    return faulty_repository(tmp_path_factory.mktemp("faulty") / "models")


@pytest.fixture(scope="session")
def faulty_server(switches: Switches) -> Iterator[LocalServer]:
    """Only generative fill, with UNets that a test can make fail or slow down."""
    with LocalServer(switches.models, ROOT / "build/faulty-server.log") as running:
        yield running


@pytest.fixture
def slow_server(faulty_server: LocalServer, switches: Switches) -> Iterator[LocalServer]:
    """Its UNet is so slow that a cancellation arrives within a step."""
    with switches.slow():
        yield faulty_server


@pytest.fixture
def slow(slow_server: LocalServer) -> Iterator[Client]:
    with Client(slow_server.url) as connected:
        yield connected


@pytest.fixture
def meter(slow_server: LocalServer) -> Iterator[Meter]:
    """Counts the work of the slow UNet from now on."""
    with contextlib.closing(grpc.InferenceServerClient(slow_server.url)) as connected:
        yield Meter(connected)
