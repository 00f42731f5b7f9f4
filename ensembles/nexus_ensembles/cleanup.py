"""cleanup: fill a masked hole from its surroundings (LaMa, arXiv:2109.07161)."""

import asyncio
from typing import Any

import numpy as np
from PIL import Image

from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging import geometry, png
from nexus_ensembles.imaging.decode import Photo, decode_mask
from nexus_ensembles.imaging.photo_store import PhotoStore, SentImage
from nexus_ensembles.networks import Bool, Networks, UInt8

# The network takes sides of multiples of this. Below 16, its coarsest level is one pixel, which cannot be reflected.
MODULUS = 8
SMALLEST_SIDE = 16
# The network gets crops of 512 pixels or more a side, up to this area; a larger crop is filled at a smaller scale.
CROP_SMALLEST = 512
CROP_MARGIN = 128
CROP_STEP = 128
CROP_MAX_AREA = 1024 * 1024
# An engine is built for sides up to this; a wire across a photo of 12 megapixels loses half its scale to it.
CROP_LONGEST = 2048
CROPS_MOST = 8
MAX_DILATE = 255


async def run(
    networks: Networks, *, image: bytes, mask: bytes, dilate: int = 3, store: PhotoStore | None = None
) -> dict[str, Any]:
    """Fill the pixels of `image` under `mask`, grown by an elliptical kernel of `dilate` pixels.

    Returns `image`: a PNG of the same size, RGBA where the input is not opaque. Its pixels outside the dilated mask are
    those of the input, byte for byte. With a `store`, `image` may be a reference. Raises BadInput, ImageNotHeld.
    """
    photo = await (await SentImage.find(image, store)).decode()
    selected = await asyncio.to_thread(decode_mask, mask, photo.size)
    return {"image": await asyncio.to_thread(png.encode, await fill(networks, photo, selected, dilate))}


async def fill(networks: Networks, photo: Photo, mask: Bool, dilate: int) -> UInt8:
    """Fill BOOL [H, W] `mask` of a photo; returns UINT8 [H, W, 3], or [H, W, 4] where the photo has an alpha channel.

    Fills each separate region in a crop around it, so that a small object in a large photo is filled at native detail
    and in bounded memory. Raises BadInput for a `dilate` out of range or a mask that leaves nothing to fill from.
    """
    if not 0 <= dilate <= MAX_DILATE:
        raise BadInput(f"dilate is {dilate}; it must lie between 0 and {MAX_DILATE} pixels.")
    dilated_mask = await asyncio.to_thread(geometry.dilate, mask, dilate)
    if dilated_mask.all():
        raise BadInput("the dilated mask covers the whole image, which leaves nothing to fill it from.")
    layers = [photo.rgb.copy()]
    if photo.alpha is not None:  # transparency around the mask continues through it as the colours do
        layers.append(np.repeat(photo.alpha[..., None], 3, axis=2))
    crops = geometry.crops_around(
        dilated_mask, margin=CROP_MARGIN, smallest=CROP_SMALLEST, step=CROP_STEP, most=CROPS_MOST
    )
    for canvas in layers:
        for crop in crops:
            view, inner, outer = canvas[crop.slices], mask[crop.slices], dilated_mask[crop.slices]
            filled = await _fill_crop(networks, view, outer)
            await asyncio.to_thread(geometry.paste, view, filled, inner, outer)
    return layers[0] if len(layers) == 1 else np.dstack([layers[0], layers[1][..., 0]])


async def _fill_crop(networks: Networks, crop: UInt8, dilated_mask: Bool) -> UInt8:
    """Run LaMa on UINT8 [h, w, 3]: shrunk where larger than it takes, padded by reflection to sides it takes."""
    height, width = dilated_mask.shape
    scale = min(1.0, (CROP_MAX_AREA / (width * height)) ** 0.5, CROP_LONGEST / max(width, height))
    working = (max(1, int(width * scale)), max(1, int(height * scale)))
    pixels, mask = crop, dilated_mask.view(np.uint8) * np.uint8(255)
    if scale < 1:
        pixels = np.asarray(Image.fromarray(crop).resize(working, Image.Resampling.BOX))
        # a working pixel that holds any of the mask belongs to the mask
        mask = np.asarray(Image.fromarray(mask).resize(working, Image.Resampling.BOX))
    outputs = await networks.run(
        "lama",
        image=geometry.pad_to_multiple(pixels, MODULUS, SMALLEST_SIDE),
        mask=geometry.pad_to_multiple(mask[..., None], MODULUS, SMALLEST_SIDE),
    )
    filled: UInt8 = outputs["filled"][: working[1], : working[0]]
    if scale < 1:
        filled = np.asarray(Image.fromarray(filled).resize((width, height), Image.Resampling.BICUBIC))
    return filled
