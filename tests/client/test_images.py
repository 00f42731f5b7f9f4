"""Every form of an image or a mask, and the bytes that are sent for it."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nexus_client import EncodedImage, InputNotFound, InvalidInput, ServerError
from nexus_client._images import decode_image, decode_mask, encode_image, encode_mask
from PIL import Image

RGB = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)


def reopened(encoded: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(encoded))
    assert image.format == "PNG"
    return image


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_path_is_sent_as_it_is(tmp_path: Path, as_type: type) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(b"\xff\xd8 any bytes at all")
    assert encode_image(as_type(path)) == b"\xff\xd8 any bytes at all"


@pytest.mark.parametrize("as_type", [bytes, bytearray, memoryview])
def test_encoded_bytes_are_sent_as_they_are(as_type: type) -> None:
    assert encode_image(as_type(b"encoded")) == b"encoded"


def test_an_opened_image_is_sent_as_it_is() -> None:
    assert encode_image(EncodedImage(b"encoded")) == encode_mask(EncodedImage(b"encoded")) == b"encoded"


@pytest.mark.parametrize(
    ("array", "mode"),
    [(RGB[..., 0], "L"), (RGB, "RGB"), (np.dstack([RGB, RGB[..., :1]]), "RGBA"), (RGB[::-1, ::2], "RGB")],
    ids=["grey", "rgb", "rgba", "strided"],
)
def test_arrays_are_sent_losslessly(array: Any, mode: str) -> None:
    image = reopened(encode_image(array))
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(image), array)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B"])
def test_pil_images_are_sent_losslessly(mode: str) -> None:
    source = Image.new(mode, (5, 3), 1)
    image = reopened(encode_image(source))
    assert image.size == (5, 3)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(source))


@pytest.mark.parametrize(
    ("mode", "sent"),
    [("CMYK", "RGB"), ("YCbCr", "RGB"), ("HSV", "RGB"), ("PA", "RGBA"), ("La", "RGBA")],
)
def test_pil_modes_that_png_lacks_are_converted(mode: str, sent: str) -> None:
    assert reopened(encode_image(Image.new(mode, (5, 3)))).mode == sent


def test_mode_i_is_8_bit_or_refused() -> None:
    levels = np.array([[0, 1, 128, 255]], np.int32)
    for sent in (encode_image(Image.fromarray(levels)), encode_mask(Image.fromarray(levels))):
        assert reopened(sent).mode == "L"
        np.testing.assert_array_equal(np.asarray(reopened(sent)), levels)
    for low, high in ((-1, 255), (0, 256)):
        with pytest.raises(
            InvalidInput, match=rf"mask is an image of mode I with values from {low} to {high}: con"
        ):
            encode_mask(Image.fromarray(np.array([[low, high]], np.int32)))


def test_a_pil_image_is_sent_as_its_pixels_stand() -> None:
    photo = Image.new("RGB", (5, 3))
    exif = photo.getexif()
    exif[0x0112] = 6  # orientation: rotate by 90 degrees
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", exif=exif)
    sent = reopened(encode_image(Image.open(buffer)))
    assert sent.size == (5, 3)
    assert 0x0112 not in sent.getexif()  # else the server would turn it


def test_a_bool_mask_becomes_black_and_white() -> None:
    mask = np.array([[True, False], [False, True]])
    np.testing.assert_array_equal(np.asarray(reopened(encode_mask(mask))), [[255, 0], [0, 255]])


def test_a_uint8_mask_is_kept() -> None:
    mask = np.array([[0, 255, 200]], np.uint8)
    np.testing.assert_array_equal(np.asarray(reopened(encode_mask(mask))), mask)


def test_a_mask_of_zeros_and_ones_is_refused() -> None:
    with pytest.raises(InvalidInput, match="only 0 and 1: pass a bool array"):
        encode_mask(np.eye(3, dtype=np.uint8))


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (RGB.astype(np.float32), "image array must be uint8 with values 0 to 255, not float32"),
        (RGB.astype(bool), "must be uint8"),
        (RGB[..., :2], "must be H x W, H x W x 3 or H x W x 4, not 3 x 5 x 2"),
        (RGB[0, 0], "not 3"),
        (RGB[np.newaxis], "not 1 x 3 x 5 x 3"),
        (RGB[:0], "not 0 x 5 x 3"),
        (np.uint8(3) * np.ones((), np.uint8), "must be"),
        (Image.new("F", (5, 3)), "convert it to L or RGB"),
        (Image.new("RGB", (0, 3)), "image has no pixels"),
        (b"", "image is empty"),
        (3, "image must be a path, encoded bytes, a numpy array or a PIL image, not int"),
        (None, "not NoneType"),
    ],
)
def test_mistakes_are_one_sentence(image: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence) as caught:
        encode_image(image)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_also_a_file_not_found_error(tmp_path: Path) -> None:
    for kind in (InputNotFound, InvalidInput, FileNotFoundError, ValueError):
        with pytest.raises(kind, match=r"mask file '.*absent\.png' does not exist"):
            encode_mask(tmp_path / "absent.png")


def test_a_folder_and_an_impossible_path_are_invalid_input(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: Is a directory"):
        encode_image(tmp_path)
    with pytest.raises(InvalidInput, match="cannot be read"):
        encode_image("a\0b")


def test_an_empty_file_is_invalid_input(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(InvalidInput, match="image is empty"):
        encode_image(tmp_path / "empty.png")


def test_an_image_too_large_for_a_message_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("nexus_client._images.MAX_ENCODED_BYTES", 4)
    (tmp_path / "large.png").write_bytes(b"12345")
    for image in (b"12345", tmp_path / "large.png"):
        with pytest.raises(InvalidInput, match="larger than 4 bytes"):
            encode_image(image)


def test_masks_are_decoded_at_half_of_the_range() -> None:
    grey = np.array([[0, 127, 128, 255]], np.uint8)
    mask = decode_mask(encode_image(grey))
    assert mask.dtype == np.bool_
    assert mask.tolist() == [[False, False, True, True]]


@pytest.mark.parametrize("encoded", [b"no image", encode_image(RGB)[:50]], ids=["text", "truncated"])
def test_an_answer_that_is_no_image_is_a_server_error(encoded: bytes) -> None:
    with pytest.raises(ServerError, match="cannot be read"):
        decode_image(encoded)
