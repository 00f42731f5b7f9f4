"""Small pictures of a fill in the making, from its latents and without the VAE."""

from __future__ import annotations

import io

import cv2
import numpy as np
from PIL import Image

from nexus_ensembles.diffusion.crop import Frame
from nexus_ensembles.networks import Bool, Float32, UInt8

# The longest side of a preview in pixels.
LONGEST = 512
QUALITY = 80


class Previews:
    """The photo in small, in which what the latents hold so far stands where the hole is.

    `latent_rgb` FP32 [5, 3] maps a scaled latent to RGB from 0 to 255, its last row the bias: a linear fit of what the
    VAE decodes, good enough to judge a composition by.
    """

    def __init__(self, rgb: UInt8, hole: Bool, frame: Frame, latent_rgb: Float32) -> None:
        """Shrink UINT8 [H, W, 3] `rgb` and BOOL [H, W] `hole`, once for all previews."""
        height, width = hole.shape
        scale = min(1.0, LONGEST / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        self._picture = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        self._hole = cv2.resize(hole.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)[..., None] > 0
        self._frame = frame
        self._latent_rgb = latent_rgb
        # from pixels of the preview to latents, whose centres lie between pixels
        across = frame.inner[0] / frame.crop.width / 8
        down = frame.inner[1] / frame.crop.height / 8
        self._to_latents = np.array(
            [
                [across * width / size[0], 0, across * (0.5 * width / size[0] - frame.crop.left) - 0.5],
                [0, down * height / size[1], down * (0.5 * height / size[1] - frame.crop.top) - 0.5],
            ]
        )

    def render(self, latents: Float32) -> bytes:
        """A JPEG of the photo with FP32 [4, h, w] scaled latents in the hole."""
        colours = np.moveaxis(latents, 0, -1) @ self._latent_rgb[:-1] + self._latent_rgb[-1]
        painted = cv2.warpAffine(
            np.clip(colours, 0, 255).astype(np.uint8),
            self._to_latents,
            self._picture.shape[1::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        data = io.BytesIO()
        Image.fromarray(np.where(self._hole, painted, self._picture)).save(data, "JPEG", quality=QUALITY)
        return data.getvalue()
