"""`photo.segment(...)` warns and still does the same as `client.segment(photo, ...)`."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from nexus_client import AsyncClient, AsyncPhoto, Client, Photo
from nexus_client._deprecated import METHODS

from tests.client.support.fakes import AsyncMockTransport, Call, MockTransport

MASK = np.zeros((30, 40), bool)
OPERATIONS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "segment": (([(1, 2)],), {"min_area": 5, "model": "sam2"}),
    "cleanup": ((MASK,), {"dilate": 5}),
    "smart_remove": ((), {"box": (1, 2, 3, 4), "rough_mask": MASK}),
    "remove_background": ((), {"background": "#ff0000"}),
    "generative_fill": ((MASK, "a bench"), {"steps": 2, "seed": 7}),
    "generative_fill_stream": ((MASK, "a bench"), {"steps": 2, "preview_every": 1}),
}


def assert_same(calls: list[Call]) -> None:
    one, other = calls
    assert one.model == other.model
    assert one.inputs.keys() == other.inputs.keys()
    for name in one.inputs:
        np.testing.assert_array_equal(one.inputs[name], other.inputs[name])


def test_every_operation_is_tested_here() -> None:
    assert set(OPERATIONS) == set(METHODS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_blocking(mock: MockTransport, name: str) -> None:
    args, options = OPERATIONS[name]
    client = Client(transport=mock)
    photo = client.open(b"photo")
    expected = getattr(client, name)(photo, *args, **options)
    sentence = rf"^photo\.{name}\(\.\.\.\) is deprecated: use client\.{name}\(photo, \.\.\.\)$"
    with pytest.warns(DeprecationWarning, match=sentence) as warned:
        result = getattr(photo, name)(*args, **options)
    assert warned[0].filename == __file__
    if name.endswith("_stream"):
        assert [type(event) for event in result] == [type(event) for event in expected]
    assert type(result) is type(expected)
    assert_same(mock.calls)


@pytest.mark.parametrize("name", OPERATIONS)
def test_asynchronous(mock: MockTransport, async_mock: AsyncMockTransport, name: str) -> None:
    args, options = OPERATIONS[name]

    async def main() -> None:
        client = AsyncClient(transport=async_mock)
        photo = await client.open(b"photo")
        with pytest.warns(DeprecationWarning, match=rf"client\.{name}\(photo, \.\.\.\)"):
            deprecated = getattr(photo, name)(*args, **options)
        for call in (getattr(client, name)(photo, *args, **options), deprecated):
            if name.endswith("_stream"):
                assert len([event async for event in call]) == 3
            else:
                await call

    asyncio.run(main())
    assert_same(mock.calls)


@pytest.mark.filterwarnings("error")
def test_nothing_else_is_added(mock: MockTransport) -> None:
    photo = Client(transport=mock).open(b"photo")
    assert isinstance(photo, Photo)
    assert AsyncPhoto is Photo
    assert photo.encoded == b"photo"
    for name in ("status", "open", "segmen"):
        with pytest.raises(AttributeError, match=f"'Photo' object has no attribute '{name}'"):
            getattr(photo, name)
