"""Large JPEGs read at a lower scale: which scale, and that they stay upright, whole and of their colours."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging.decode import decode_photo, decode_reduced
from PIL import Image

from tests.ensembles.support.fakes import encode, noise

UInt8 = npt.NDArray[np.uint8]


def smooth(height: int, width: int) -> UInt8:
    """Colours that differ from corner to corner, and hardly from pixel to pixel."""
    corners = np.array([[[250, 20, 30], [20, 230, 40]], [[30, 40, 240], [220, 210, 20]]], np.uint8)
    return np.asarray(cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR))


def jpeg(pixels: UInt8, mode: str = "RGB", orientation: int = 1, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(data, "JPEG", exif=exif, quality=95, **options)
    return data.getvalue()


def reduced(data: bytes, least: tuple[int, int]) -> tuple[UInt8, tuple[int, int]]:
    photo, size = decode_reduced(data, lambda *_: least)
    return photo.rgb, size


@pytest.mark.parametrize(
    ("least", "shape"),
    [
        ((641, 481), (481, 641, 3)),
        ((321, 241), (481, 641, 3)),
        ((320, 240), (241, 321, 3)),
        ((161, 120), (241, 321, 3)),
        ((160, 120), (121, 161, 3)),
        ((80, 60), (61, 81, 3)),
        ((1, 1), (61, 81, 3)),
    ],
)
def test_the_scale_is_the_smallest_that_leaves_enough(least: tuple[int, int], shape: tuple[int, ...]) -> None:
    rgb, size = reduced(jpeg(smooth(481, 641)), least)
    assert (rgb.shape, size) == (shape, (641, 481))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{"subsampling": 2}, {"subsampling": 0, "progressive": True}])
def test_it_is_the_photo_made_smaller(orientation: int, mode: str, options: dict[str, Any]) -> None:
    if mode == "L":
        options = {key: value for key, value in options.items() if key != "subsampling"}
    data = jpeg(smooth(480, 648), mode, orientation, **options)
    whole = decode_photo(data)
    rgb, size = reduced(data, (160, 120))
    assert size == whole.size
    assert max(rgb.shape) == 162
    expected = cv2.resize(whole.rgb, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    # the chroma of 4:2:0 is made up differently at each scale
    assert np.abs(rgb.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_other_formats_are_read_whole(kind: str) -> None:
    data = encode(noise(480, 640, 4), kind)
    rgb, size = reduced(data, (10, 10))
    assert size == (640, 480)
    np.testing.assert_array_equal(rgb, decode_photo(data).rgb)


def test_a_jpeg_that_is_not_large_is_read_as_it_is() -> None:
    data = jpeg(noise(480, 640))
    np.testing.assert_array_equal(reduced(data, (400, 300))[0], decode_photo(data).rgb)


@pytest.mark.parametrize(("height", "width"), [(1, 5000), (5000, 1), (7, 5000)])
def test_thin_photos(height: int, width: int) -> None:
    rgb, size = reduced(jpeg(smooth(height, width)), (1024, 1) if width > height else (1, 1024))
    assert size == (width, height)
    assert rgb.size


def test_faults_are_those_of_the_whole_photo() -> None:
    data = jpeg(noise(480, 640))
    with pytest.raises(BadInput, match="the image is damaged: its JPEG data cannot be decoded"):
        reduced(data[: len(data) // 2], (10, 10))
