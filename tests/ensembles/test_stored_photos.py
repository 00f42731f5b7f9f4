"""How often the pipelines decode and encode a photo that their store holds, and what they take by reference."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import numpy as np
import pytest
from nexus_ensembles import cleanup, remove_background, segment, smart_remove
from nexus_ensembles.errors import BadInput, ImageNotHeld
from nexus_ensembles.imaging import decode, photo_store
from nexus_ensembles.imaging.photo_store import FILE, PhotoStore
from nexus_ensembles.sam import ResizeLongestSide

from tests.ensembles.support.fakes import FakeNetworks, encode, noise, run
from tests.ensembles.support.fill import FakeFillNetworks, pipeline, stream

PHOTO = encode(noise(100, 200))
DIGEST = hashlib.sha256(PHOTO).hexdigest()
REFERENCE = b"sha256:" + DIGEST.encode()
MASK = np.zeros((100, 200), np.bool_)
MASK[40:60, 50:90] = True
POINTS = np.array([[50, 50]], np.float32)
SAM_BYTES = 256 * 64 * 64 * 4

PIPELINES: dict[str, tuple[Any, dict[str, Any]]] = {
    "cleanup": (cleanup.run, {"mask": encode(MASK)}),
    "smart_remove": (smart_remove.run, {"points": POINTS}),
    "remove_background": (remove_background.run, {}),
    "segment": (segment.run, {"points": POINTS}),
}


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by "whole" or "reduced" with each photo that is decoded."""
    found: list[str] = []

    def counted(name: str, function: Any) -> Any:
        def counting(*args: Any) -> Any:
            found.append(name)
            return function(*args)

        return counting

    monkeypatch.setattr(photo_store, "decode_photo", counted("whole", decode.decode_photo))
    monkeypatch.setattr(segment, "decode_reduced", counted("reduced", decode.decode_reduced))
    return found


@pytest.fixture
def store() -> PhotoStore:
    return PhotoStore(100 * 2**20)


@pytest.mark.parametrize("name", PIPELINES)
def test_a_reference_gives_what_the_bytes_give(name: str, store: PhotoStore) -> None:
    function, inputs = PIPELINES[name]
    plain, first, again = (
        run(function(FakeNetworks(), image=image, **inputs, **options))
        for image, options in ((PHOTO, {}), (PHOTO, {"store": store}), (REFERENCE, {"store": store}))
    )
    assert plain == first == again


@pytest.mark.parametrize("name", PIPELINES)
def test_each_says_what_it_does_not_hold(name: str, store: PhotoStore) -> None:
    function, inputs = PIPELINES[name]
    networks = FakeNetworks()
    with pytest.raises(ImageNotHeld, match=f"image sha256:{DIGEST} is not held here"):
        run(function(networks, image=REFERENCE, **inputs, store=store))
    assert networks.calls == []


@pytest.mark.parametrize("image", [PHOTO, REFERENCE])
def test_a_further_click_decodes_and_encodes_nothing(
    image: bytes, store: PhotoStore, decoded: list[str]
) -> None:
    networks = FakeNetworks()
    run(segment.run(networks, image=PHOTO, points=POINTS, store=store))
    run(segment.run(networks, image=image, points=POINTS + 1, store=store))
    assert [call.network for call in networks.calls] == ["sam_encoder", "sam_decoder", "sam_decoder"]
    assert decoded == ["reduced"]
    # the features of one photo and nothing else
    assert store.held_bytes == SAM_BYTES


def test_each_model_has_features_of_its_own(store: PhotoStore) -> None:
    networks = FakeNetworks()
    run(segment.run(networks, image=PHOTO, points=POINTS, store=store))
    with pytest.raises(ImageNotHeld):
        run(segment.run(networks, image=REFERENCE, points=POINTS, model="sam2", store=store))
    for image in (PHOTO, REFERENCE):
        run(segment.run(networks, image=image, points=POINTS, model="sam2", store=store))
    assert [len(networks.of(f"{name}_encoder")) for name in ("sam", "sam2")] == [1, 1]


def test_the_features_that_are_held_are_copies(store: PhotoStore) -> None:
    """Triton's own memory is written again when the call is over."""
    shared = np.full((256, 64, 64), 7, np.float32)

    class Shared(FakeNetworks):
        def _sam_encoder(self, image: Any) -> dict[str, Any]:  # noqa: ARG002
            return {"embedding": shared}

    networks = Shared()
    run(segment.run(networks, image=PHOTO, points=POINTS, store=store))
    shared[:] = 0
    run(segment.run(networks, image=REFERENCE, points=POINTS, store=store))
    assert networks.of("sam_decoder")[1]["embedding"].min() == 7


def test_a_bad_click_by_reference_is_refused_as_ever(store: PhotoStore) -> None:
    networks = FakeNetworks()
    run(segment.run(networks, image=PHOTO, points=POINTS, store=store))
    with pytest.raises(BadInput, match=r"point 1 \(999, 5\) lies outside the image of 200 x 100 pixels."):
        run(segment.run(networks, image=REFERENCE, points=np.array([[999, 5]], np.float32), store=store))
    assert len(networks.of("sam_decoder")) == 1


def test_a_further_removal_decodes_its_pixels_and_encodes_nothing(
    store: PhotoStore, decoded: list[str]
) -> None:
    networks = FakeNetworks()
    for image in (PHOTO, REFERENCE):
        run(smart_remove.run(networks, image=image, points=POINTS, store=store))
    assert len(networks.of("sam_encoder")) == 1
    assert sorted(decoded) == ["reduced", "whole", "whole"]
    assert store.held_bytes == SAM_BYTES + len(PHOTO)


def test_both_operations_frame_a_large_jpeg_alike() -> None:
    """Read at half its size, so that the server's response cache has for the one what the other has encoded."""
    photo, networks = encode(noise(1500, 4100), "JPEG"), FakeNetworks()
    run(segment.run(networks, image=photo, points=POINTS))
    run(smart_remove.run(networks, image=photo, points=POINTS))
    one, other = (inputs["image"] for inputs in networks.of("sam_encoder"))
    np.testing.assert_array_equal(one, other)
    halved, size = decode.decode_reduced(photo, lambda *_: (2048, 750))
    assert (halved.size, size) == ((2050, 750), (4100, 1500))
    np.testing.assert_array_equal(one, ResizeLongestSide(4100, 1500).apply_image(halved.rgb))


def test_where_the_features_are_displaced_the_file_makes_them_again() -> None:
    store, networks = PhotoStore(SAM_BYTES + len(PHOTO)), FakeNetworks()
    run(smart_remove.run(networks, image=PHOTO, points=POINTS, store=store))
    assert store.get(DIGEST, FILE) == PHOTO  # now the entry used last
    store.keep("another", "sam", None, SAM_BYTES)
    run(smart_remove.run(networks, image=REFERENCE, points=POINTS, store=store))
    assert len(networks.of("sam_encoder")) == 2


def test_a_fill_takes_references_too(store: PhotoStore) -> None:
    fill = pipeline()

    async def last(**options: Any) -> Any:
        request = {"steps": 2, "strength": 1.0, "store": store, **options}
        return [event async for event in stream(fill, FakeFillNetworks(), **request)][-1]

    with pytest.raises(ImageNotHeld):
        asyncio.run(last(image=REFERENCE))
    photo = encode(noise(192, 320))
    first = asyncio.run(last(image=photo))
    again = asyncio.run(last(image=b"sha256:" + hashlib.sha256(photo).hexdigest().encode()))
    assert again.image == first.image
    assert store.held_bytes == len(photo)
