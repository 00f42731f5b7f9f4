"""How a photo gets into SAM's square frame, and a mask out of it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from nexus_ensembles.networks import Bool, Float32, UInt8

SAM_SIDE = 1024
LOGITS_SIDE = 256
# SAM pads with zeros after normalisation; the padding is bytes here, and this grey is what normalises to nearly zero.
SAM_PIXEL_MEAN = (124, 116, 104)


@dataclass(frozen=True)
class _Frame:
    """Of a photo of `width` x `height` pixels."""

    width: int
    height: int

    def mask(self, logits: Float32) -> Bool:
        """FP32 [h, w] logits from `upsample` -> BOOL [height, width], resized to the photo and cut at zero."""
        resized = cv2.resize(logits, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized > 0)


@dataclass(frozen=True)
class Letterbox(_Frame):
    """The resize of a photo into the top left corner of SAM's 1024 x 1024 frame (its ResizeLongestSide)."""

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height of the photo inside the frame."""
        scale = SAM_SIDE / max(self.width, self.height)
        return max(1, int(self.width * scale + 0.5)), max(1, int(self.height * scale + 0.5))

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height, in pixels of the photo rounded up, of a cell of the low-resolution logits."""
        side = -(-max(self.width, self.height) // LOGITS_SIDE)
        return side, side

    def frame(self, rgb: UInt8) -> UInt8:
        """UINT8 [height, width, 3] -> UINT8 [1024, 1024, 3], resized as SAM does (bilinear, anti-aliased)."""
        width, height = self.inner
        border = (0, SAM_SIDE - height, 0, SAM_SIDE - width)
        resized = _resize(rgb, self.inner)
        return np.asarray(cv2.copyMakeBorder(resized, *border, cv2.BORDER_CONSTANT, value=SAM_PIXEL_MEAN))

    def points(self, points: Float32) -> Float32:
        """FP32 [N, 2] pixels of the photo -> FP32 [N, 2] pixels of the frame."""
        width, height = self.inner
        return (points * (width / self.width, height / self.height)).astype(np.float32)

    def upsample(self, logits: Float32) -> Float32:
        """FP32 [256, 256] low-resolution logits -> FP32 [h, w]: the photo's part of the 1024 frame (see `inner`)."""
        width, height = self.inner
        framed = cv2.resize(logits, (SAM_SIDE, SAM_SIDE), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(framed[:height, :width], np.float32)

    def mask_prompt(self, mask: Bool) -> Float32:
        """BOOL [height, width] -> FP32 [256, 256], a mask prompt: 1 inside, -1 outside and where the photo is not."""
        width, height = (max(1, round(side / 4)) for side in self.inner)
        prompt = np.full((LOGITS_SIDE, LOGITS_SIDE), -1, np.float32)
        share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        prompt[:height, :width] = 2 * share - 1
        return prompt


@dataclass(frozen=True)
class Stretch(_Frame):
    """The resize of a photo to all of SAM 2's 1024 x 1024 frame, whatever its ratio (its SAM2Transforms)."""

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height, in pixels of the photo rounded up, of a cell of the low-resolution logits."""
        return -(-self.width // LOGITS_SIDE), -(-self.height // LOGITS_SIDE)

    def frame(self, rgb: UInt8) -> UInt8:
        """UINT8 [height, width, 3] -> UINT8 [1024, 1024, 3], resized as SAM 2 does (bilinear, anti-aliased)."""
        return _resize(rgb, (SAM_SIDE, SAM_SIDE))

    def points(self, points: Float32) -> Float32:
        """FP32 [N, 2] pixels of the photo -> FP32 [N, 2] pixels of the frame."""
        return (points * (SAM_SIDE / self.width, SAM_SIDE / self.height)).astype(np.float32)

    def upsample(self, logits: Float32) -> Float32:
        """FP32 [256, 256] low-resolution logits -> FP32 [h, w]: the photo scaled to 1024 on its long side."""
        size = Letterbox(self.width, self.height).inner
        return np.asarray(cv2.resize(logits, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def mask_prompt(self, mask: Bool) -> Float32:
        """BOOL [height, width] -> FP32 [256, 256], a mask prompt: 1 inside, -1 outside."""
        share = cv2.resize(mask.astype(np.float32), (LOGITS_SIDE, LOGITS_SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(2 * share - 1, np.float32)


def _resize(rgb: UInt8, size: tuple[int, int]) -> UInt8:
    # Enlarging, OpenCV's bilinear filter is Pillow's to a rounding step, in a fifth of the time.
    if size[0] > rgb.shape[1] and size[1] > rgb.shape[0]:
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))


Frame = Letterbox | Stretch
