"""Pictures of every mode and orientation give the same results as their plain RGB twins."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from nexus_client import Client
from PIL import Image, ImageOps

from tests.functional.support.formats import (
    DILATE,
    LOSSY,
    OPAQUE,
    ORIENTATION,
    TRANSLUCENT,
    TURNED,
    decoded,
    grey,
    hole,
    outside,
    photo,
    rgba,
)
from tests.functional.support.malformed_files import chunk, encode, png


@pytest.mark.parametrize("name", OPAQUE)
def test_cleanup_keeps_the_pixels_of_a_lossless_file(name: str, client: Client) -> None:
    data, expected = OPAQUE[name]()
    filled = client.cleanup(data, hole(), dilate=DILATE)
    assert (filled.mode, filled.size) == ("RGB", (240, 160))
    np.testing.assert_array_equal(np.asarray(filled)[outside()], expected[outside()])
    twin = client.cleanup(expected, hole(), dilate=DILATE)
    np.testing.assert_array_equal(np.asarray(filled), np.asarray(twin))


@pytest.mark.parametrize("name", LOSSY)
def test_cleanup_keeps_the_pixels_of_a_lossy_file(name: str, client: Client) -> None:
    data = LOSSY[name]()
    expected = decoded(data)
    filled = np.asarray(client.cleanup(data, hole(), dilate=DILATE))
    np.testing.assert_array_equal(filled[outside()], expected[outside()])
    # Pillow is not the only witness: orientation and colours must be right. Quality 75 and chroma at half the size
    # lose about 3 levels on this photo; inverted inks would differ by a hundred.
    original = np.repeat(grey()[..., None], 3, 2) if name.startswith("grey") else photo()
    assert np.abs(expected.astype(int) - original).mean() < 6


STRAY = b"\xff\xda" * 200  # the marker that begins a scan, where it does not
MARKED: dict[str, Callable[[], bytes]] = {
    "in a webp": lambda: encode(Image.fromarray(photo()), "WEBP", lossless=True, xmp=STRAY),
    "in a comment": lambda: encode(Image.fromarray(photo()), "JPEG", comment=STRAY),
    "in a film behind the picture": lambda: encode(Image.fromarray(photo()), "JPEG") + b"ftypmp42" + STRAY,
}


@pytest.mark.parametrize("name", MARKED)
def test_what_only_looks_like_many_scans_is_accepted(name: str, client: Client) -> None:
    data = MARKED[name]()
    filled = np.asarray(client.cleanup(data, hole(), dilate=DILATE))
    np.testing.assert_array_equal(filled[outside()], decoded(data)[outside()])


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientation_is_applied(kind: str, orientation: int, client: Client) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    stored = Image.fromarray(np.ascontiguousarray(TURNED[orientation](photo())))
    options = {} if kind == "PNG" else {"quality": 95} if kind == "JPEG" else {"lossless": True}
    data = encode(stored, kind, exif=exif, **options)
    filled = client.cleanup(data, hole(), dilate=DILATE)
    assert filled.size == (240, 160)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(np.asarray(filled)[outside()], upright[outside()])
    # JPEG at quality 95 loses 1.5 levels; a picture turned wrongly differs by 40 or more
    assert np.abs(upright.astype(int) - photo()).mean() <= (3 if kind == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # from Pillow, when the test itself reads the file
@pytest.mark.parametrize(
    "broken", [b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0" + b"\xff" * 999]
)
def test_broken_exif_is_ignored(broken: bytes, client: Client) -> None:
    data = encode(Image.fromarray(photo()), "JPEG", exif=broken)
    filled = np.asarray(client.cleanup(data, hole(), dilate=DILATE))
    np.testing.assert_array_equal(filled[outside()], decoded(data)[outside()])


@pytest.mark.parametrize("name", TRANSLUCENT)
def test_cleanup_keeps_alpha(name: str, client: Client) -> None:
    data, colours, levels = TRANSLUCENT[name]()
    filled = client.cleanup(data, hole(), dilate=DILATE)
    assert (filled.mode, filled.size) == ("RGBA", (240, 160))
    np.testing.assert_array_equal(np.asarray(filled)[outside()], np.dstack([colours, levels])[outside()])


@pytest.mark.parametrize("name", [*OPAQUE, *TRANSLUCENT])
def test_segment_ignores_alpha(name: str, client: Client) -> None:
    data, expected, *_ = OPAQUE[name]() if name in OPAQUE else TRANSLUCENT[name]()
    box = (125, 100, 175, 140)
    found, twin = (client.segment(image, box=box) for image in (data, expected))
    # Equal pixels make equal requests to the networks, which are deterministic.
    np.testing.assert_array_equal(found.mask, twin.mask)
    assert found.score == twin.score


@pytest.mark.parametrize("name", [*OPAQUE, *TRANSLUCENT])
def test_remove_background_multiplies_its_alpha_with_the_picture_s(name: str, client: Client) -> None:
    data, expected, *levels = OPAQUE[name]() if name in OPAQUE else TRANSLUCENT[name]()
    cut = client.remove_background(data, background="transparent")
    twin = np.asarray(client.remove_background(expected, background="transparent"))
    assert (cut.mode, cut.size) == ("RGBA", (240, 160))
    matte = twin[..., 3].astype(int) * levels[0] // 255 if levels else twin[..., 3]
    np.testing.assert_array_equal(np.asarray(cut)[..., :3], expected)
    np.testing.assert_array_equal(np.asarray(cut)[..., 3], matte)


def test_remove_background_shows_the_colour_through_transparent_pixels(client: Client) -> None:
    cut = client.remove_background(encode(rgba()), background="#102030")
    assert (cut.mode, cut.size) == ("RGB", (240, 160))
    assert (np.asarray(cut)[:, 0] == (0x10, 0x20, 0x30)).all()  # where the photo's own alpha is 0


MASKS: dict[str, Callable[[], bytes]] = {
    "1-bit png": lambda: encode(Image.fromarray(hole())),
    "grey png": lambda: encode(Image.fromarray(hole() * np.uint8(255))),
    "just brighter than half": lambda: encode(Image.fromarray(np.where(hole(), 128, 127).astype(np.uint8))),
    "16-bit png": lambda: encode(Image.fromarray(hole() * np.uint16(65535))),
    "rgb png": lambda: encode(Image.fromarray(hole() * np.uint8(255)).convert("RGB")),
    "palette png": lambda: encode(Image.fromarray(hole() * np.uint8(255)).convert("P")),
    "rgba png, opaque": lambda: encode(Image.fromarray(hole() * np.uint8(255)).convert("RGBA")),
    "white, transparent outside": lambda: encode(
        Image.fromarray(np.dstack([np.full((160, 240), 255, np.uint8), hole() * np.uint8(255)]))
    ),
    "rgb png with black transparent": lambda: encode(
        Image.fromarray(hole() * np.uint8(255)).convert("RGB"), transparency=(0, 0, 0)
    ),
    # ringing at quality 95 stays below half
    "jpeg": lambda: encode(Image.fromarray(hole() * np.uint8(255)), "JPEG", quality=95),
    "webp": lambda: encode(Image.fromarray(hole() * np.uint8(255)).convert("RGB"), "WEBP", lossless=True),
    "turned by exif": lambda: turned_mask(),
}


def turned_mask() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    stored = np.ascontiguousarray(TURNED[6](hole() * np.uint8(255)))
    return encode(Image.fromarray(stored), exif=exif)


@functools.cache
def reference(url: str) -> Any:
    with Client(url) as client:
        return np.asarray(client.cleanup(photo(), hole(), dilate=DILATE))


@pytest.mark.parametrize("name", MASKS)
def test_masks_of_every_mode_select_the_same(name: str, client: Client, server: Any) -> None:
    filled = np.asarray(client.cleanup(photo(), MASKS[name](), dilate=DILATE))
    np.testing.assert_array_equal(filled, reference(server.url))


def test_a_palette_chunk_out_of_place_changes_nothing(client: Client) -> None:
    """An RGB PNG may suggest a palette, which does not apply to its own pixels."""
    lines = np.hstack([np.zeros((160, 1), np.uint8), photo().reshape(160, -1)]).tobytes()
    data = png(240, 160, 8, 2, zlib.compress(lines), chunk(b"PLTE", bytes(range(30))))
    filled = np.asarray(client.cleanup(data, hole(), dilate=DILATE))
    np.testing.assert_array_equal(filled[outside()], photo()[outside()])
