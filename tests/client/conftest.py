"""The stand-ins as fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.client.support.fake_triton import FakeTriton
from tests.client.support.fakes import (
    AsyncMockTransport,
    Fill,
    MockTransport,
    Nexus,
    fill_asynchronous,
    fill_blocking,
)


@pytest.fixture
def mock() -> MockTransport:
    return MockTransport()


@pytest.fixture
def async_mock(mock: MockTransport) -> AsyncMockTransport:
    return AsyncMockTransport(mock)


@pytest.fixture(params=[fill_blocking, fill_asynchronous])
def fill(request: pytest.FixtureRequest) -> Fill:
    function: Fill = request.param
    return function


@pytest.fixture
def triton() -> Iterator[FakeTriton]:
    server = FakeTriton()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def nexus(mock: MockTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nexus:
    command = Nexus(mock, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nexus_client._client.GrpcTransport", command.transport)
    Image.new("RGB", (40, 30)).save("photo.png")
    Image.new("L", (40, 30), 255).save("mask.png")
    return command
