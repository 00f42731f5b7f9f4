"""Previews of a fill under way, from its latents and without the VAE."""

import io

import cv2
import numpy as np
from PIL import Image

from nexus_ensembles.diffusion.crop import VAE_SCALE_FACTOR, InpaintCrop
from nexus_ensembles.networks import Bool, Float32, UInt8

# The longest side of a preview in pixels.
LONGEST = 512
QUALITY = 80


class Previews:
    """A thumbnail of the photo with the current latents, mapped linearly to RGB, in the mask.

    `latent_rgb` FP32 [5, 3] maps a scaled latent to RGB from 0 to 255, its last row the bias: a linear fit of the VAE's
    decoder, good enough to judge a composition by.
    """

    def __init__(self, rgb: UInt8, mask: Bool, crop: InpaintCrop, latent_rgb: Float32) -> None:
        """Shrink UINT8 [H, W, 3] `rgb` and BOOL [H, W] `mask`, once for all previews."""
        height, width = mask.shape
        scale = min(1.0, LONGEST / max(width, height))
        size = max(1, round(width * scale)), max(1, round(height * scale))
        self._thumbnail = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
        self._mask = cv2.resize(mask.view(np.uint8), size, interpolation=cv2.INTER_NEAREST)[..., None] > 0
        self._latent_rgb = latent_rgb
        # from pixels of the preview to latents, whose centres lie between pixels
        across = crop.resized[0] / crop.box.width / VAE_SCALE_FACTOR
        down = crop.resized[1] / crop.box.height / VAE_SCALE_FACTOR
        self._to_latents = np.array(
            [
                [across * width / size[0], 0, across * (0.5 * width / size[0] - crop.box.left) - 0.5],
                [0, down * height / size[1], down * (0.5 * height / size[1] - crop.box.top) - 0.5],
            ]
        )

    def render(self, latents: Float32) -> bytes:
        """Draw FP32 [4, h, w] scaled latents into the mask; returns a JPEG."""
        colours = np.moveaxis(latents, 0, -1) @ self._latent_rgb[:-1] + self._latent_rgb[-1]
        painted = cv2.warpAffine(
            np.clip(colours, 0, 255).astype(np.uint8),
            self._to_latents,
            self._thumbnail.shape[1::-1],
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )
        data = io.BytesIO()
        Image.fromarray(np.where(self._mask, painted, self._thumbnail)).save(data, "JPEG", quality=QUALITY)
        return data.getvalue()
