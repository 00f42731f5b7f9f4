"""smart_remove: point at an object and it is gone; segment, then cleanup, in one call."""

from __future__ import annotations

import asyncio
from typing import Any

import cv2
import numpy as np

from nexus_ensembles import cleanup, segment
from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging import geometry, png
from nexus_ensembles.imaging.decode import decode_mask, decode_photo
from nexus_ensembles.networks import Array, Bool, Float32, Networks
from nexus_ensembles.sam import MODELS


async def run(
    networks: Networks,
    *,
    image: bytes,
    points: Array | None = None,
    labels: Array | None = None,
    box: Array | None = None,
    rough_mask: bytes = b"",
    dilate: int = 3,
    model: bytes = b"",
) -> dict[str, Any]:
    """Remove the object that clicks, a box or a roughly painted mask show; `model` as in `segment` finds it.

    Returns `image` as `cleanup` does, `mask` (8-bit grey PNG: what was taken for the object, before `dilate`) and
    `score`, the IoU that the model predicts. The mask is the model's, grown by one cell of its 256 x 256 grid on every
    side, which is as sure as it can be of an edge: without it a rim of the object would stay. Raises BadInput.
    """
    sam = MODELS.get(model)
    photo = await asyncio.to_thread(decode_photo, image)
    rough = None
    if rough_mask:
        rough = await asyncio.to_thread(decode_mask, rough_mask, photo.size, "rough mask")
        if box is None or not box.size:
            box = _bounds(rough)
    prompt = segment.Prompt.parse(points, labels, box, photo.size)
    found, score = await segment.predict(networks, sam, photo.rgb, prompt, rough=rough)
    width, height = sam.frame(*photo.size).cell
    mask = await asyncio.to_thread(geometry.dilate, found, 2 * width + 1, 2 * height + 1)
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
