"""Decoding and its limits; modes and orientations on a real server are in tests/functional/test_formats.py."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging.decode import decode_mask, decode_photo
from PIL import Image

from tests.ensembles.support.fakes import encode, noise


def png(width: int, height: int, depth: int = 1, colour: int = 0, extra: bytes = b"") -> bytes:
    """A whole PNG of zeros; its data is a thousandth of its pixels."""
    row = 1 + (width * depth * {0: 1, 2: 3}[colour] + 7) // 8

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(row * height), 9)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def grey_mask(*shape: int) -> npt.NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    mask[1:3, 2:4] = 255
    return mask


def refused(data: bytes, sentence: str, **options: Any) -> None:
    with pytest.raises(BadInput) as caught:
        decode_photo(data, **options)
    assert str(caught.value) == sentence


def test_a_photo_is_rgb_without_alpha() -> None:
    pixels = noise(7, 5)
    photo = decode_photo(encode(pixels))
    assert photo.size == (5, 7)
    assert photo.alpha is None
    np.testing.assert_array_equal(photo.rgb, pixels)


def test_alpha_is_apart_and_none_where_it_is_full() -> None:
    pixels = noise(7, 5, 4)
    photo = decode_photo(encode(pixels))
    np.testing.assert_array_equal(photo.rgb, pixels[..., :3])
    assert photo.alpha is not None
    np.testing.assert_array_equal(photo.alpha, pixels[..., 3])
    pixels[..., 3] = 255
    assert decode_photo(encode(pixels)).alpha is None


def test_16_bits_are_scaled_not_clipped() -> None:
    levels = np.array([[0, 255, 256, 257, 32_768, 65_535]], np.uint16)
    assert decode_photo(encode(levels)).rgb[0, :, 0].tolist() == [0, 0, 1, 1, 128, 255]


def test_no_bytes() -> None:
    refused(b"", "the image is empty.")
    refused(b"", "the rough mask is empty.", what="rough mask")


def test_the_byte_limit_comes_before_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(noise(4, 4))
    monkeypatch.setattr("nexus_ensembles.imaging.decode.MAX_BYTES", len(data))
    decode_photo(data)
    refused(bytes(len(data) + 1), f"the image has {len(data) + 1} bytes; at most {len(data)} are accepted.")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_formats(kind: str) -> None:
    refused(encode(noise(4, 4), kind), "the image is not a readable PNG, JPEG or WebP file.")


def test_exactly_50_megapixels_are_accepted_and_no_more() -> None:
    photo = decode_photo(png(8000, 6250))
    assert photo.size == (8000, 6250)
    assert not photo.rgb.any()
    refused(png(8000, 6251), "the image is 8000 x 6251 pixels; at most 50 megapixels are accepted.")


def test_a_side_of_65535_is_accepted_and_no_more() -> None:
    assert decode_photo(png(1, 65_535)).size == (1, 65_535)
    refused(png(65_536, 1), "the image is 65536 x 1 pixels; a side may have at most 65535.")


def test_pixels_are_limited_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(_: Image.Image) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    refused(png(8000, 6251), "the image is 8000 x 6251 pixels; at most 50 megapixels are accepted.")
    with pytest.raises(BadInput, match=r"the mask is 8000 x 6000 pixels but the image is 4 x 4"):
        decode_mask(png(8000, 6000), (4, 4))


def test_a_png_too_short_for_its_pixels_is_damaged_before_it_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(_: Image.Image) -> None:
        raise MemoryError

    whole = png(4000, 4000, 8, 2)
    assert decode_photo(whole).size == (4000, 4000)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
    refused(whole[:2000] + whole[-50:], "the image is damaged: its PNG data cannot be decoded.")


def test_metadata_are_limited() -> None:
    def text(kind: bytes, size: int) -> bytes:
        data = b"k\0\0" + zlib.compress(bytes(size))
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    assert decode_photo(png(9, 9, extra=text(b"zTXt", 2**19))).size == (9, 9)
    for bomb in (text(b"zTXt", 2**21), text(b"zTXt", 2**19) * 3, text(b"iCCP", 2**21)):
        refused(png(9, 9, extra=bomb), "the image is not a readable PNG, JPEG or WebP file.")
    refused(
        png(9, 9, extra=text(b"iCCP", 2**10) * 9),
        "the image holds more than 8 colour profiles; save it again.",
    )
    assert decode_photo(png(9, 9, extra=text(b"teXt", 0) * 1000)).size == (9, 9)
    refused(
        png(9, 9, extra=text(b"teXt", 0) * 20_000),
        "the image is a PNG of more than 20000 chunks; save it again.",
    )


def test_damage_names_the_format() -> None:
    for kind in ("PNG", "JPEG"):
        data = encode(noise(64, 64), kind)
        refused(data[: len(data) // 2], f"the image is damaged: its {kind} data cannot be decoded.")


def test_broken_exif_is_passed_over() -> None:
    """Pillow's own exif_transpose fails on this one: a tag whose type does not fit its value."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "maker"
    data = encode(noise(8, 16), "JPEG", exif=exif)
    broken = data.replace(b"MM\x00*", b"XX\x00*").replace(b"II*\x00", b"XX*\x00")
    assert broken != data
    assert decode_photo(data).size == (8, 16)
    assert decode_photo(broken).size == (16, 8)


def test_a_mask_is_true_where_brighter_than_half() -> None:
    levels = np.array([[0, 127, 128, 255]], np.uint8)
    mask = decode_mask(encode(levels), (4, 1))
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, False, True, True]]


def test_transparent_pixels_of_a_mask_are_black() -> None:
    levels = np.array([[[255, 255], [255, 128], [255, 127], [100, 255]]], np.uint8)
    assert decode_mask(encode(levels), (4, 1)).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize(
    ("mask", "sentence"),
    [
        (np.zeros((4, 5), np.uint8), "the mask selects nothing: it has no pixel brighter than half."),
        (np.full((4, 5), 127, np.uint8), "the mask selects nothing: it has no pixel brighter than half."),
        (
            np.full((4, 5), 128, np.uint8),
            "the mask covers the whole image, which leaves nothing to fill it from.",
        ),
        (
            grey_mask(5, 4),
            "the mask is 4 x 5 pixels but the image is 5 x 4; they must be the same size.",
        ),
        (
            grey_mask(4, 6),
            "the mask is 6 x 4 pixels but the image is 5 x 4; they must be the same size.",
        ),
    ],
)
def test_masks_that_mean_nothing(mask: npt.NDArray[np.uint8], sentence: str) -> None:
    with pytest.raises(BadInput) as caught:
        decode_mask(encode(mask), (5, 4))
    assert str(caught.value) == sentence


def test_a_mask_turned_by_its_exif_has_the_size_it_is_turned_to() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    mask = decode_mask(encode(grey_mask(4, 6), exif=exif), (4, 6))
    np.testing.assert_array_equal(mask, np.rot90(grey_mask(4, 6), -1) > 0)
