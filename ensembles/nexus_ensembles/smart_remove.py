"""smart_remove: point at an object and it is gone; segment, then cleanup, in one call."""

import asyncio
from typing import Any

import numpy as np

from nexus_ensembles import cleanup, segment
from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging import geometry, png
from nexus_ensembles.imaging.decode import decode_mask
from nexus_ensembles.imaging.photo_store import PhotoStore, SentImage
from nexus_ensembles.networks import Array, Networks
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
    model: str = "",
    store: PhotoStore | None = None,
) -> dict[str, Any]:
    """Remove the object that clicks, a box or a roughly painted mask show; `model` as in `segment` finds it.

    Returns `image` as `cleanup` does, `mask` (8-bit grey PNG: the object as found, before `dilate`) and `score`, the
    IoU that the model predicts. The mask is the model's, grown by one cell of its 256 x 256 grid on every side, which
    is how exactly it knows an edge: without it a rim of the object would stay. With a `store`, `image` may be a
    reference. Raises BadInput, ImageNotHeld.
    """
    sam = MODELS.get(model)
    sent = await SentImage.find(image, store)
    # The square is the one that `segment` makes, read at a lower scale where the pixels are not: the server's cache may
    # have its features.
    photo, encoded = await asyncio.gather(sent.decode(), segment.prepare(sam, sent))
    rough = None
    if rough_mask:
        rough = await asyncio.to_thread(decode_mask, rough_mask, photo.size, "rough mask")
        if box is None or not box.size:
            around = geometry.bounds(rough)
            box = np.array([around.left, around.top, around.right, around.bottom], np.float32)
    prompt = segment.Prompt.parse(points, labels, box, photo.size)
    found = await segment.predict(networks, sam, sent, encoded, prompt, rough_mask=rough)
    width, height = found.cell
    mask = await asyncio.to_thread(geometry.dilate, found.mask, 2 * width + 1, 2 * height + 1)
    if not mask.any():
        raise BadInput("no object was found there; click on its middle or draw a box around it.")
    filled = await cleanup.fill(networks, photo, mask, dilate)
    return {
        "image": await asyncio.to_thread(png.encode, filled),
        "mask": await asyncio.to_thread(png.encode, mask.view(np.uint8) * np.uint8(255)),
        "score": found.score,
    }
