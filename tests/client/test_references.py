"""Images by reference: sent where the server has seen them, whole where it no longer holds them, within the budget."""

from __future__ import annotations

import asyncio
import hashlib
import pickle
from typing import Any

import grpc
import numpy as np
import pytest
from nexus_client import (
    AsyncClient,
    Client,
    DeadlineExceeded,
    EncodedImage,
    ImageNotHeld,
    InvalidInput,
    Unavailable,
)

from tests.client.support.fake_triton import FakeTriton, contents
from tests.client.support.fakes import AsyncMockTransport, MockTransport, png_noise

PHOTO = png_noise(60, 80)
REFERENCE = b"sha256:" + hashlib.sha256(PHOTO).hexdigest().encode()
MASK = np.zeros((60, 80), bool)
# Each operation with what it needs beside the image.
OPERATIONS: dict[str, dict[str, Any]] = {
    "segment": {"points": [(1, 2)]},
    "cleanup": {"mask": MASK},
    "smart_remove": {"points": [(1, 2)]},
    "remove_background": {},
    "generative_fill": {"mask": MASK, "prompt": "a bench"},
    "generative_fill_stream": {"mask": MASK, "prompt": "a bench"},
}


def sent(mock: MockTransport) -> list[bytes]:
    """The images of all calls."""
    return [call.inputs["image"].item() for call in mock.calls]


def run(client: Client, name: str, image: Any) -> None:
    result = getattr(client, name)(image, **OPERATIONS[name])
    if name.endswith("_stream"):
        list(result)


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_second_call_of_an_operation_sends_a_reference(mock: MockTransport, name: str) -> None:
    client = Client(transport=mock)
    photo = client.open(PHOTO)
    run(client, name, photo)
    run(client, name, photo)
    assert sent(mock) == [PHOTO, REFERENCE]


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_reference_that_is_not_held_costs_one_more_call(mock: MockTransport, name: str) -> None:
    client = Client(transport=mock, retries=None)
    photo = client.open(PHOTO)
    run(client, name, photo)
    mock.faults = [ImageNotHeld("image sha256:... is not held here; send its bytes.")]
    run(client, name, photo)
    run(client, name, photo)
    assert sent(mock) == [PHOTO, REFERENCE, PHOTO, REFERENCE]


@pytest.mark.parametrize("name", OPERATIONS)
def test_asyncio(mock: MockTransport, async_mock: AsyncMockTransport, name: str) -> None:
    async def main() -> None:
        client = AsyncClient(transport=async_mock)
        photo = await client.open(PHOTO)
        for faults in ([], [ImageNotHeld("image sha256:...")]):
            mock.faults = list(faults)
            result = getattr(client, name)(photo, **OPERATIONS[name])
            if name.endswith("_stream"):
                assert [event async for event in result]
            else:
                await result

    asyncio.run(main())
    assert sent(mock) == [PHOTO, REFERENCE, PHOTO]


def test_the_deprecated_form_too(mock: MockTransport) -> None:
    photo = Client(transport=mock).open(PHOTO)
    for _ in range(2):
        with pytest.warns(DeprecationWarning, match="client.segment"):
            photo.segment([(1, 2)])
    assert sent(mock) == [PHOTO, REFERENCE]


def test_each_operation_and_each_server_learns_for_itself(mock: MockTransport) -> None:
    photo = EncodedImage(PHOTO)
    one, other = Client("one:8001", transport=mock), Client("other:8001", transport=mock)
    run(one, "segment", photo)
    run(one, "smart_remove", photo)
    run(other, "segment", photo)
    run(one, "segment", photo)
    assert sent(mock) == [PHOTO, PHOTO, PHOTO, REFERENCE]


def test_plain_images_and_masks_are_never_references(mock: MockTransport) -> None:
    client = Client(transport=mock)
    mask = client.open(PHOTO)
    for _ in range(2):
        client.cleanup(PHOTO, mask)
    assert sent(mock) == [PHOTO, PHOTO]
    assert [call.inputs["mask"].item() for call in mock.calls] == [PHOTO, PHOTO]


def test_a_small_image_is_sent_whole(mock: MockTransport) -> None:
    client = Client(transport=mock)
    small = client.open(b"photo")
    for _ in range(2):
        run(client, "segment", small)
    assert sent(mock) == [b"photo", b"photo"]


def test_a_call_that_was_refused_teaches_nothing(mock: MockTransport) -> None:
    client = Client(transport=mock)
    photo = client.open(PHOTO)
    mock.faults = [InvalidInput("point 1 lies outside the image")]
    with pytest.raises(InvalidInput):
        run(client, "segment", photo)
    run(client, "segment", photo)
    assert sent(mock) == [PHOTO, PHOTO]


def test_a_restarted_server_costs_the_retries_and_a_round_trip(mock: MockTransport) -> None:
    client = Client(transport=mock)
    photo = client.open(PHOTO)
    run(client, "segment", photo)
    mock.faults = [Unavailable("starting"), ImageNotHeld("image sha256:..."), Unavailable("overloaded")]
    run(client, "segment", photo)
    assert sent(mock) == [PHOTO, REFERENCE, REFERENCE, PHOTO, PHOTO]


def test_every_try_gets_what_is_left_of_one_budget(mock: MockTransport) -> None:
    client = Client(transport=mock, timeout=5)
    photo = client.open(PHOTO)
    run(client, "segment", photo)
    mock.faults = [ImageNotHeld("image sha256:..."), DeadlineExceeded("slow")]
    with pytest.raises(DeadlineExceeded, match="no answer to 'segment' within 5 s"):
        run(client, "segment", photo)
    first, second = (call.timeout for call in mock.calls[1:])
    assert 0 < second < first <= 5


def test_what_is_learned_survives_pickling(mock: MockTransport) -> None:
    client = Client(transport=mock)
    photo = EncodedImage(PHOTO)
    run(client, "segment", photo)
    copy = pickle.loads(pickle.dumps(photo))
    assert copy == photo
    run(client, "segment", copy)
    assert sent(mock) == [PHOTO, REFERENCE]


def test_the_server_s_not_found_over_grpc(triton: FakeTriton) -> None:
    message = f"image {REFERENCE.decode()} is not held here; send its bytes."
    with Client(triton.url) as client:
        photo = client.open(PHOTO)
        for name in ("segment", "generative_fill_stream"):
            run(client, name, photo)
            triton.faults = [(grpc.StatusCode.NOT_FOUND, message)]
            run(client, name, photo)
    images = [contents(request)["image"].item() for request in triton.requests]
    assert images == [PHOTO, REFERENCE, PHOTO] * 2
