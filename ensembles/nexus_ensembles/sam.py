"""Segment Anything and its second generation, and all that differs between them.

Resizes a photo into the square that the encoder takes, brings a mask back out of it, and selects the mask to serve.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from nexus_ensembles.models import Model, Models
from nexus_ensembles.networks import Bool, Float32, UInt8

# The square that the encoders take, and that of the decoders' low-resolution logits.
SIDE = 1024
LOGITS_SIDE = 256
# SAM pads with zeros after normalisation; the padding is bytes here, and this grey normalises to nearly zero.
PIXEL_MEAN = (124, 116, 104)
# The published SAM 2's dynamic_multimask_via_stability: a mask whose area hardly depends on where it is cut is stable.
STABILITY_DELTA = 0.05
STABILITY_SHARE = 0.98


@dataclass(frozen=True)
class _Transform:
    """Of a photo of `width` x `height` pixels."""

    width: int
    height: int

    def to_mask(self, logits: Float32) -> Bool:
        """FP32 [h, w] logits from `upsample` -> BOOL [height, width], resized to the photo and cut at zero."""
        resized = cv2.resize(logits, (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized > 0)


@dataclass(frozen=True)
class ResizeLongestSide(_Transform):
    """SAM's ResizeLongestSide: the photo keeps its ratio, in the top left corner of the 1024 x 1024 square."""

    @property
    def resized(self) -> tuple[int, int]:
        """Width and height of the photo inside the square."""
        scale = SIDE / max(self.width, self.height)
        return max(1, int(self.width * scale + 0.5)), max(1, int(self.height * scale + 0.5))

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height, in pixels of the photo rounded up, of a cell of the low-resolution logits."""
        side = -(-max(self.width, self.height) // LOGITS_SIDE)
        return side, side

    def apply_image(self, rgb: UInt8) -> UInt8:
        """UINT8 [height, width, 3] -> UINT8 [1024, 1024, 3], resized as SAM does (bilinear, anti-aliased), padded.

        `rgb` may be of fewer pixels, the same photo read at a lower scale.
        """
        width, height = self.resized
        border = (0, SIDE - height, 0, SIDE - width)
        resized = _resize(rgb, self.resized)
        return np.asarray(cv2.copyMakeBorder(resized, *border, cv2.BORDER_CONSTANT, value=PIXEL_MEAN))

    def apply_coords(self, points: Float32) -> Float32:
        """FP32 [N, 2] pixels of the photo -> FP32 [N, 2] pixels of the square."""
        width, height = self.resized
        return (points * (width / self.width, height / self.height)).astype(np.float32)

    def upsample(self, logits: Float32) -> Float32:
        """FP32 [256, 256] low-resolution logits -> FP32 [h, w]: the photo's part of the square (see `resized`)."""
        width, height = self.resized
        square = cv2.resize(logits, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(square[:height, :width], np.float32)

    def mask_prompt(self, mask: Bool) -> Float32:
        """BOOL [height, width] -> FP32 [256, 256], a mask prompt: 1 inside, -1 outside and in the padding."""
        width, height = (max(1, round(side / 4)) for side in self.resized)
        prompt = np.full((LOGITS_SIDE, LOGITS_SIDE), -1, np.float32)
        share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        prompt[:height, :width] = 2 * share - 1
        return prompt


@dataclass(frozen=True)
class ResizeToSquare(_Transform):
    """SAM 2's SAM2Transforms: the photo is stretched to all of the 1024 x 1024 square, whatever its ratio."""

    @property
    def resized(self) -> tuple[int, int]:
        """Width and height of the photo inside the square: all of it."""
        return SIDE, SIDE

    @property
    def cell(self) -> tuple[int, int]:
        """Width and height, in pixels of the photo rounded up, of a cell of the low-resolution logits."""
        return -(-self.width // LOGITS_SIDE), -(-self.height // LOGITS_SIDE)

    def apply_image(self, rgb: UInt8) -> UInt8:
        """UINT8 [height, width, 3] -> UINT8 [1024, 1024, 3], resized as SAM 2 does (bilinear, anti-aliased).

        `rgb` may be of fewer pixels, the same photo read at a lower scale.
        """
        return _resize(rgb, self.resized)

    def apply_coords(self, points: Float32) -> Float32:
        """FP32 [N, 2] pixels of the photo -> FP32 [N, 2] pixels of the square."""
        return (points * (SIDE / self.width, SIDE / self.height)).astype(np.float32)

    def upsample(self, logits: Float32) -> Float32:
        """FP32 [256, 256] low-resolution logits -> FP32 [h, w]: the photo scaled to 1024 on its long side."""
        size = ResizeLongestSide(self.width, self.height).resized
        return np.asarray(cv2.resize(logits, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def mask_prompt(self, mask: Bool) -> Float32:
        """BOOL [height, width] -> FP32 [256, 256], a mask prompt: 1 inside, -1 outside."""
        share = cv2.resize(mask.astype(np.float32), (LOGITS_SIDE, LOGITS_SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(2 * share - 1, np.float32)


Resize = ResizeLongestSide | ResizeToSquare


@dataclass(frozen=True)
class Sam(Model):
    """One generation: the networks `name`_encoder and `name`_decoder, and how they were trained to be used.

    `resize` brings a photo into the encoder's square; `features` are the encoder's outputs that the decoder takes.
    With `pads_box_prompt`, a box too is followed by the token for "not a point". With `multimask_via_stability`, the
    best of the three masks takes the place of a single mask that is not stable.
    """

    resize: type[ResizeLongestSide] | type[ResizeToSquare]
    features: tuple[str, ...]
    pads_box_prompt: bool
    multimask_via_stability: bool

    def select_mask(self, masks: Float32, scores: Float32, is_ambiguous: bool) -> int:
        """The index of the mask to serve, of FP32 [4, 256, 256] logits: 0, the single one, or the best of the others.

        A prompt that `is_ambiguous` gets one of the three (`predict` with multimask_output in both published codes).
        """
        if is_ambiguous or (self.multimask_via_stability and not _is_stable(masks[0])):
            return 1 + int(scores[1:].argmax())
        return 0


MODELS = Models(
    # Kirillov et al. 2023, arXiv:2304.02643.
    Sam(
        "sam",
        build="sam",
        resize=ResizeLongestSide,
        features=("embedding",),
        pads_box_prompt=False,
        multimask_via_stability=False,
    ),
    # Ravi et al. 2024, arXiv:2408.00714, as its SAM2ImagePredictor uses it.
    Sam(
        "sam2",
        build="sam2 --checkpoint ...",
        resize=ResizeToSquare,
        features=("embedding", "high_res_0", "high_res_1"),
        pads_box_prompt=True,
        multimask_via_stability=True,
    ),
)


def _resize(rgb: UInt8, size: tuple[int, int]) -> UInt8:
    # To enlarge, OpenCV's bilinear filter is Pillow's to a rounding step, in a fifth of the time.
    if size[0] > rgb.shape[1] and size[1] > rgb.shape[0]:
        return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_LINEAR))
    return np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BILINEAR))


def _is_stable(logits: Float32) -> bool:
    within = np.count_nonzero(logits > STABILITY_DELTA)
    around = np.count_nonzero(logits > -STABILITY_DELTA)
    return within >= STABILITY_SHARE * around
