"""Where in the preview the latents stand, and in which colours."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
from nexus_ensembles.diffusion.crop import InpaintCrop
from nexus_ensembles.diffusion.previews import Previews
from PIL import Image

# The most that a preview is off by: JPEG's quantisation of pictures without edges, and rounding.
JPEG = 6


def render(
    pixels: npt.NDArray[np.uint8],
    hole: npt.NDArray[np.bool_],
    latents: npt.NDArray[np.float32],
    crop: InpaintCrop,
) -> npt.NDArray[np.int64]:
    """A preview, in which a latent's first channel is grey from 0 to 1."""
    latent_rgb = np.zeros((5, 3), np.float32)
    latent_rgb[0] = 255
    data = Previews(pixels, hole, crop, latent_rgb).render(latents)
    return np.asarray(Image.open(io.BytesIO(data)), np.int64)


@pytest.mark.parametrize(
    ("height", "width"), [(100, 150), (256, 256), (512, 512), (600, 900), (3000, 2000), (20, 3000)]
)
def test_the_latents_stand_where_their_pixels_are(height: int, width: int) -> None:
    # a picture that is its own position, from the photo through the crop to latents and back
    ramp = np.linspace(0, 255, width)[None] + np.linspace(0, 0, height)[:, None]
    pixels = np.repeat(ramp[..., None], 3, axis=2).astype(np.uint8)
    hole = np.zeros((height, width), np.bool_)
    hole[height // 4 : height // 2, width // 4 : width // 2] = True
    crop = InpaintCrop.around(hole, 256)
    working = crop.apply_image(pixels)[..., 0].astype(np.float32)
    rows, columns = working.shape
    latents = np.zeros((4, rows // 8, columns // 8), np.float32)
    latents[0] = working.reshape(rows // 8, 8, columns // 8, 8).mean((1, 3)) / 255
    shown = render(pixels, hole, latents, crop)
    assert max(shown.shape[:2]) == min(512, max(height, width))
    expected = np.asarray(
        Image.fromarray(pixels).resize((shown.shape[1], shown.shape[0]), Image.Resampling.BOX), np.int64
    )
    assert np.abs(shown - expected).max() <= JPEG


def test_colours_are_the_linear_map_of_the_latents_clipped() -> None:
    pixels, hole = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.bool_)
    hole[:, :48] = True
    crop = InpaintCrop.around(hole, 64)
    assert crop.size == (64, 64)
    latent_rgb = np.array([[10, 0, 0], [0, 20, 0], [0, 0, 30], [1, 1, 1], [100, 110, 120]], np.float32)
    latents = np.empty((4, 8, 8), np.float32)
    latents[:] = np.array([1, -2, 99, 4], np.float32)[:, None, None]
    data = Previews(pixels, hole, crop, latent_rgb).render(latents)
    shown = np.asarray(Image.open(io.BytesIO(data)), np.int64)
    # JPEG keeps colours at half the resolution
    assert np.abs(shown[8:-8, 8:32] - (114, 74, 255)).max() <= JPEG
    assert np.abs(shown[:, 56:] - 128).max() <= JPEG
