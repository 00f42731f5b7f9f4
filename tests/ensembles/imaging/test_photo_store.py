"""What a store holds and lets go, and references: their form, their order among the checks, their errors."""

from __future__ import annotations

import asyncio
import hashlib

import numpy as np
import pytest
from nexus_ensembles.errors import BadInput, ImageNotHeld
from nexus_ensembles.imaging import decode, photo_store
from nexus_ensembles.imaging.photo_store import FILE, PhotoStore, SentImage

from tests.ensembles.support.fakes import encode, noise

PHOTO = encode(noise(30, 40))
DIGEST = hashlib.sha256(PHOTO).hexdigest()
REFERENCE = b"sha256:" + DIGEST.encode()
MALFORMED = "the image is not a reference: give sha256: and 64 lower-case hexadecimal digits."


def test_the_least_recently_used_goes_first() -> None:
    store = PhotoStore(100)
    for name in "abc":
        store.keep(name, FILE, name, 30)
    assert store.get("a", FILE) == "a"
    store.keep("d", FILE, "d", 30)
    assert [store.get(name, FILE) for name in "abcd"] == ["a", None, "c", "d"]
    assert store.held_bytes == 90


def test_the_bound_holds_whatever_the_sizes() -> None:
    store, random = PhotoStore(1000), np.random.default_rng(0)
    for number, size in enumerate(random.integers(0, 1200, 500).tolist()):
        store.keep(str(number % 70), FILE, size, size)
        assert store.held_bytes <= 1000
        assert (store.get(str(number % 70), FILE) == size) == (size <= 1000) or size > 1000


def test_a_value_takes_the_place_of_an_earlier_one_of_its_kind_alone() -> None:
    store = PhotoStore(100)
    store.keep("a", FILE, "old", 40)
    store.keep("a", "sam", "other", 40)
    store.keep("a", FILE, "new", 20)
    assert (store.get("a", FILE), store.get("a", "sam"), store.held_bytes) == ("new", "other", 60)


def test_what_is_larger_than_the_store_displaces_nothing() -> None:
    store = PhotoStore(100)
    store.keep("a", FILE, "a", 100)
    store.keep("b", FILE, "b", 101)
    assert (store.get("a", FILE), store.get("b", FILE)) == ("a", None)


async def seen(store: PhotoStore, *sent: bytes) -> list[decode.Photo]:
    return [await (await SentImage.find(data, store)).decode() for data in sent]


def test_a_reference_is_the_image_that_was_seen() -> None:
    store = PhotoStore(10**6)
    first, second = asyncio.run(seen(store, PHOTO, REFERENCE))
    np.testing.assert_array_equal(first.rgb, second.rgb)
    assert store.held_bytes == len(PHOTO)


def test_what_is_not_held_is_not_found() -> None:
    with pytest.raises(ImageNotHeld) as caught:
        asyncio.run(seen(PhotoStore(10**6), REFERENCE))
    assert str(caught.value) == f"image sha256:{DIGEST} is not held here; send its bytes."
    assert caught.value.code == "NOT_FOUND"
    with pytest.raises(ImageNotHeld):
        asyncio.run(seen(PhotoStore(len(PHOTO) - 1), PHOTO, REFERENCE))


def test_what_cannot_be_decoded_is_not_kept() -> None:
    store, damaged = PhotoStore(10**6), PHOTO[:-100]
    with pytest.raises(BadInput, match="damaged"):
        asyncio.run(seen(store, damaged))
    assert store.held_bytes == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"sha256:",
        REFERENCE[:-1],
        REFERENCE + b"0",
        REFERENCE + b"\n",
        REFERENCE.upper().replace(b"SHA", b"sha"),
        b"sha256:" + b"g" * 64,
        b"sha256:" + bytes(10**6),
    ],
)
def test_what_is_no_reference_is_refused(sent: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        asyncio.run(seen(PhotoStore(10**6), sent))
    assert str(caught.value) == MALFORMED


def test_the_byte_limit_comes_before_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decode, "MAX_BYTES", 100)
    monkeypatch.setattr(photo_store, "MAX_BYTES", 100)
    monkeypatch.setattr(hashlib, "sha256", None)
    for sent in (PHOTO, b"sha256:" + bytes(200)):
        with pytest.raises(BadInput, match="at most 100 are accepted"):
            asyncio.run(seen(PhotoStore(10**6), sent))


def test_without_a_store_a_reference_is_no_image() -> None:
    with pytest.raises(BadInput, match="not a readable PNG, JPEG or WebP file"):
        asyncio.run(seen(None, REFERENCE))  # type: ignore[arg-type]


def test_a_pipeline_has_a_store_where_its_config_bounds_one() -> None:
    assert photo_store.from_parameters({"networks": "lama"}) == {}
    found = photo_store.from_parameters({"photo_store_bytes": "10"})["store"]
    found.keep("a", FILE, "a", 11)
    assert found.held_bytes == 0
