"""The encoder against Pillow's decoder."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from nexus_ensembles.imaging import png
from PIL import Image


@pytest.mark.parametrize("shape", [(1, 1), (7, 5), (300, 2000), (1, 300_000), (700, 1), (40, 31)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_pixels_come_back(shape: tuple[int, int], channels: int) -> None:
    """One strip and many, a row longer than a strip, noise and gradients."""
    noise = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    smooth = (np.indices((*shape, channels)).sum(0) // 3 % 256).astype(np.uint8)
    for pixels in (noise, smooth):
        pixels = pixels[..., 0] if channels == 1 else pixels
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            decoded = Image.open(io.BytesIO(png.encode(pixels)))
            assert np.array_equal(np.asarray(decoded), pixels)
        assert decoded.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]


def test_views_are_encoded_as_they_look() -> None:
    pixels = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    decoded = np.asarray(Image.open(io.BytesIO(png.encode(pixels[::-1, ::2]))))
    assert np.array_equal(decoded, pixels[::-1, ::2])
