"""The crop of a photo that a diffusion model repaints: around the mask, at a working size, and pasted back."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import cv2
import numpy as np

from nexus_ensembles.imaging.decode import Photo
from nexus_ensembles.imaging.geometry import Box, bounds, start_around
from nexus_ensembles.networks import Array, Bool, Float32, UInt8

# Working sides are multiples of this: of 8 for the VAE, by the 8 of a UNet with three halvings.
MODULUS = 64
# Pixels a side that one latent stands for.
VAE_SCALE_FACTOR = 8
# The least area of a working image, in parts of the model's own; never above one, so that memory is known beforehand.
SMALLEST_AREA = 0.75
# The shapes in common use among those that SDXL was trained on (arXiv:2307.01952, appendix I); upright ones are their
# transposes. Few shapes, because Triton batches only requests of the same; a photo longer than all is reflected.
SHAPES = ((1024, 1024), (1152, 896), (1216, 832), (1344, 768), (1536, 640))
# A crop is stretched by at most this to reach multiples of MODULUS; the paste-back undoes it.
MOST_STRETCH = 1.25
# The encoder's input under the mask: the byte next to zero in [-1, 1], the value diffusers puts there (127.5).
GREY = 128
# The width of the surroundings that colours are matched on, and of the seam, in working pixels.
RING = 32
FEATHER = 3
# The bounds of the gain that colours are matched by.
GAINS = (0.8, 1.25)


@dataclass(frozen=True)
class InpaintCrop:
    """Where the working image lies in the photo.

    `box` of the photo is resized to `resized` (width, height), and extended by reflection at its right and bottom to
    `size` (width, height), both in working pixels. The two differ only for a photo longer than all working shapes.
    """

    box: Box
    resized: tuple[int, int]
    size: tuple[int, int]

    @classmethod
    def around(cls, mask: Bool, side: int) -> InpaintCrop:
        """The crop for BOOL [H, W] `mask` and a model whose own images have `side` x `side` pixels.

        It holds the mask and a margin. A mask that fits the working size is painted at native detail, in a crop of just
        that size where the photo has it; a larger one is shrunk, a small photo enlarged.
        """
        height, width = mask.shape
        near = bounds(mask)
        across = _with_margin(near.left, near.right, width, side)
        down = _with_margin(near.top, near.bottom, height, side)

        def crop_for(size: tuple[int, int]) -> tuple[int, int]:
            shrink = max(1.0, (across[1] - across[0]) / size[0], (down[1] - down[0]) / size[1])
            return min(width, round(size[0] * shrink)), min(height, round(size[1] * shrink))

        def cost(size: tuple[int, int]) -> float:
            crop = crop_for(size)
            shrink = crop[0] / size[0], crop[1] / size[1]
            return (
                abs(math.log(shrink[0] / shrink[1]))  # distorts
                + 0.5 * max(0.0, math.log(max(shrink)))  # loses detail
                + 0.25 * math.log(side * side / (size[0] * size[1]))  # is smaller than the model is used to
                + 0.1 * abs(math.log(size[0] / size[1]))  # is less square than it is used to
                + 0.05 * (crop != size)  # blurs
            )

        size = min(working_sizes(side), key=cost)
        crop = crop_for(size)
        left, top = start_around(*across, crop[0], width), start_around(*down, crop[1], height)
        scales = size[0] / crop[0], size[1] / crop[1]
        resized = size
        if max(scales) > MOST_STRETCH * min(scales):
            resized = max(1, round(crop[0] * min(scales))), max(1, round(crop[1] * min(scales)))
        return cls(Box(left, top, left + crop[0], top + crop[1]), resized, size)

    def apply_image(self, rgb: UInt8) -> UInt8:
        """UINT8 [H, W, 3] of the photo -> UINT8 [h, w, 3], the working image."""
        return self._extend(_resize(rgb[self.box.slices], self.resized))

    def apply_mask(self, mask: Bool) -> Bool:
        """BOOL [H, W] of the photo -> BOOL [h, w]: True where a working pixel holds any of the mask.

        Where the mask is thinner than a latent, whole cells of VAE_SCALE_FACTOR x VAE_SCALE_FACTOR pixels that it
        touches are masked; `latent_mask`, which samples one pixel of each, could miss them.
        """
        pixels: Array = mask[self.box.slices].view(np.uint8)
        shrink = math.ceil(self.box.width / self.resized[0]), math.ceil(self.box.height / self.resized[1])
        if max(shrink) > 1:  # so that the one pixel that is sampled stands for all to its right and below it
            pixels = cv2.dilate(pixels, np.ones((shrink[1], shrink[0]), np.uint8), anchor=(0, 0))
        pixels = self._extend(cv2.resize(pixels, self.resized, interpolation=cv2.INTER_NEAREST))
        cell = np.ones((VAE_SCALE_FACTOR, VAE_SCALE_FACTOR), np.uint8)
        # an opening; OpenCV's own moves the picture when the kernel is even
        eroded = cv2.erode(pixels, cell, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
        thick = cv2.dilate(eroded, cell, anchor=(VAE_SCALE_FACTOR - 1, VAE_SCALE_FACTOR - 1))
        cells = self.size[1] // VAE_SCALE_FACTOR, VAE_SCALE_FACTOR, -1, VAE_SCALE_FACTOR
        thin = np.bitwise_xor(pixels, thick).reshape(cells)
        widened = np.where(thin.any(axis=(1, 3), keepdims=True), np.uint8(1), thin).reshape(pixels.shape)
        return cv2.bitwise_or(pixels, widened).view(np.bool_)

    def paste(self, photo: Photo, mask: Bool, fill: UInt8) -> UInt8:
        """Put UINT8 [h, w, 3] `fill` of the working image into a copy of the photo; returns [H, W, 3] or [H, W, 4].

        Only pixels of BOOL [H, W] `mask` change, and become opaque. The fill fades in from the mask's edge over FEATHER
        working pixels, less where the mask is thin, so that the removed object does not shine through.
        """
        canvas = photo.rgb.copy() if photo.alpha is None else np.dstack([photo.rgb, photo.alpha])
        fill = _resize(fill[: self.resized[1], : self.resized[0]], (self.box.width, self.box.height))
        view, mask = canvas[self.box.slices], mask[self.box.slices]
        near = bounds(mask)
        # with a pixel around, from which the distance counts
        rows = slice(max(0, near.top - 1), near.bottom + 1)
        columns = slice(max(0, near.left - 1), near.right + 1)
        view, fill, mask = view[rows, columns], fill[rows, columns], mask[rows, columns]
        weight = _feather(mask, FEATHER * max(1.0, self.box.width / self.resized[0]))
        seam = (weight > 0) & (weight < 1)
        if photo.alpha is None:
            view[seam] = _over(fill[seam], weight[seam], view[seam])
        else:
            view[seam] = _over_alpha(fill[seam], weight[seam], view[seam])
            fill = np.dstack([fill, np.full(mask.shape, 255, np.uint8)])
        cv2.copyTo(fill, (weight == 1).view(np.uint8), view)
        return canvas

    def _extend(self, pixels: Array) -> Array:
        """Reflect working pixels [h, w, ...] at the right and bottom from `resized` to `size`."""
        right, bottom = self.size[0] - self.resized[0], self.size[1] - self.resized[1]
        if not right and not bottom:
            return pixels
        return np.pad(pixels, [(0, bottom), (0, right), (0, 0)][: pixels.ndim], mode="symmetric")


def latent_mask(mask: Bool) -> Float32:
    """BOOL [h, w] of a working image -> FP32 [1, h/8, w/8] of 0 and 1: as diffusers, one pixel for each latent."""
    return mask[None, ::VAE_SCALE_FACTOR, ::VAE_SCALE_FACTOR].astype(np.float32)


def masked_image(image: UInt8, mask: Bool) -> UInt8:
    """The working image UINT8 [h, w, 3] with GREY under BOOL [h, w] `mask`."""
    return np.where(mask[..., None], np.uint8(GREY), image)


def match_colours(fill: UInt8, image: UInt8, mask: Bool) -> UInt8:
    """Bring the colours of UINT8 [h, w, 3] `fill` to those of the working image around BOOL [h, w] `mask`.

    A model repaints its surroundings too, a little off. The correction that brings each channel's mean and standard
    deviation there to the photo's is applied to the whole fill (Reinhard et al. 2001, in RGB), its gain kept within
    GAINS.
    """
    near = cv2.dilate(mask.view(np.uint8), np.ones((2 * RING + 1, 2 * RING + 1), np.uint8)).view(np.bool_)
    ring = near & ~mask
    if not ring.any():
        return fill
    painted, wanted = fill[ring].astype(np.float32), image[ring].astype(np.float32)
    # one level more on both sides keeps flat surroundings from a meaningless ratio
    gain = np.clip((wanted.std(axis=0) + 1) / (painted.std(axis=0) + 1), *GAINS)
    levels = (np.arange(256)[:, None] - painted.mean(axis=0)) * gain + wanted.mean(axis=0)
    table = np.clip(np.rint(levels), 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(fill, table[None]))


@functools.lru_cache
def working_sizes(side: int) -> list[tuple[int, int]]:
    """The working (width, height) for a model of `side`: the multiples of MODULUS nearest in aspect to SHAPES."""
    longest = max(width / height for width, height in SHAPES)
    lengths = range(MODULUS, math.ceil(side * math.sqrt(longest)) + MODULUS, MODULUS)
    possible = [
        (width, height)
        for width in lengths
        for height in lengths
        if SMALLEST_AREA <= width * height / (side * side) <= 1 and height <= width <= longest * height
    ]
    nearest = {
        min(possible, key=lambda size: (abs(math.log(size[0] / size[1] * height / width)), -size[0]))
        for width, height in SHAPES
    }
    return sorted(nearest | {(height, width) for width, height in nearest})


def _with_margin(low: int, high: int, limit: int, side: int) -> tuple[int, int]:
    """The span with an eighth of the model's side, or a quarter of its own length, on both sides, inside the photo."""
    margin = max(side // 8, (high - low) // 4)
    return max(0, low - margin), min(limit, high + margin)


def _resize(pixels: UInt8, size: tuple[int, int]) -> UInt8:
    """Resize [h, w, 3] to (width, height): averaged to shrink, bicubic to enlarge."""
    height, width = pixels.shape[:2]
    if size == (width, height):
        return pixels
    shrinks = size[0] * size[1] < width * height
    return np.asarray(
        cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC), np.uint8
    )


def _feather(mask: Bool, width: float) -> Float32:
    """FP32 [h, w] weights: 0 outside, 1 from `width` pixels off the edge on, or from half way to the middle."""
    distance = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    reach = 4 * math.ceil(width) + 1
    middle = cv2.dilate(distance, np.ones((reach, reach), np.uint8))
    np.multiply(middle, 0.5, out=middle)
    np.clip(middle, 1, width, out=middle)
    np.divide(distance, middle, out=distance)
    return np.minimum(distance, 1, out=distance)


def _over(fill: UInt8, weight: Float32, under: UInt8) -> UInt8:
    """Pixels [N, 3] of `fill` laid over opaque ones with FP32 [N] weights."""
    share = weight[:, None]
    return np.asarray(np.rint(fill * share + under * (1 - share)), np.uint8)


def _over_alpha(fill: UInt8, weight: Float32, under: UInt8) -> UInt8:
    """Pixels [N, 3] of `fill` laid over [N, 4] with FP32 [N] weights: Porter and Duff's "over"."""
    share = weight[:, None]
    left = (1 - share) * under[:, 3:] / np.float32(255)
    alpha = share + left
    colours = (fill * share + under[:, :3] * left) / alpha
    return np.asarray(np.rint(np.hstack([colours, alpha * 255])), np.uint8)
