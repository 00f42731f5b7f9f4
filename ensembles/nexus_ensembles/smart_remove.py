"""smart_remove: point at an object and it is gone; segment, then cleanup, in one call."""

from __future__ import annotations

import asyncio
from typing import Any

import cv2
import numpy as np

from nexus_ensembles import cleanup, geometry, images, png, segment
from nexus_ensembles.errors import BadInput
from nexus_ensembles.networks import Array, Bool, Float32, Networks

# The confidence given to a rough mask as SAM's mask prompt, in logits: a sure one, but open to correction.
ROUGH_LOGIT = 6.0


async def run(
    networks: Networks,
    *,
    image: bytes,
    points: Array | None = None,
    labels: Array | None = None,
    box: Array | None = None,
    rough_mask: bytes = b"",
    dilate: int = 3,
) -> dict[str, Any]:
    """Remove the object that clicks, a box or a roughly painted mask show.

    Returns `image` as `cleanup` does, `mask` (8-bit grey PNG: what was taken for the object, before `dilate`) and
    `score`, the IoU that SAM predicts. The mask is SAM's, grown by one cell of its 256 x 256 grid, which is as sure
    as SAM can be of an edge: without it a rim of the object would stay. Raises BadInput.
    """
    photo = await asyncio.to_thread(images.decode_photo, image)
    rough = None
    if rough_mask:
        painted = await asyncio.to_thread(images.decode_mask, rough_mask, photo.size, "rough mask")
        if box is None or not box.size:
            box = _bounds(painted)
        rough = _logits(painted)
    prompt = segment.Prompt.parse(points, labels, box, photo.size)
    found, score = await segment.predict(networks, photo.rgb, prompt, rough=rough)
    cell = -(-max(photo.size) // 256)
    mask = await asyncio.to_thread(geometry.dilate, found, 2 * cell + 1)
    if not mask.any():
        raise BadInput("no object was found there; click on its middle or draw a box around it.")
    filled = await cleanup.fill(networks, photo, mask, dilate)
    return {
        "image": await asyncio.to_thread(png.encode, filled),
        "mask": await asyncio.to_thread(png.encode, mask.view(np.uint8) * np.uint8(255)),
        "score": score,
    }


def _bounds(mask: Bool) -> Float32:
    """The box FP32 [4] around the True pixels."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return np.array([x, y, x + width, y + height], np.float32)


def _logits(mask: Bool) -> Float32:
    """BOOL [H, W] -> FP32 [256, 256], letterboxed as SAM expects its mask prompt."""
    frame = geometry.Letterbox(mask.shape[1], mask.shape[0])
    width, height = (max(1, round(side / 4)) for side in frame.inner)
    logits = np.full((256, 256), -ROUGH_LOGIT, np.float32)
    share = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    logits[:height, :width] = (2 * share - 1) * ROUGH_LOGIT
    return logits
