"""remove_background: cut out the salient object, by U2-Net (arXiv:2005.09007) or the finer IS-Net (arXiv:2203.03041).

Both as the rembg package applies them.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from nexus_ensembles.errors import BadInput, NotBuilt
from nexus_ensembles.imaging import png
from nexus_ensembles.imaging.decode import Photo
from nexus_ensembles.imaging.photo_store import PhotoStore, SentImage
from nexus_ensembles.models import Model, Models
from nexus_ensembles.networks import Float32, Networks, UInt8

TRANSPARENT = "transparent"
Colour = tuple[int, int, int]
_NOT_A_COLOUR = 'background is not a colour: give "transparent", a CSS name such as "white", or #rrggbb.'


@dataclass(frozen=True)
class SaliencyModel(Model):
    """The network `name`, which takes the photo in a square of `side` pixels."""

    side: int


MODELS = Models(
    SaliencyModel("u2net", build="u2net", side=320),
    SaliencyModel("isnet", build="isnet --checkpoint ...", side=1024),
)


async def run(
    networks: Networks,
    *,
    image: bytes,
    background: str = "white",
    model: str = "",
    store: PhotoStore | None = None,
) -> dict[str, Any]:
    """Replace the background of `image` by a colour, or by nothing.

    `background` is "transparent", a CSS colour name, or #rgb, #rrggbb, rgb(...), hsl(...). `model` is "u2net" or
    "isnet"; empty means "u2net". Returns `image`, a PNG: RGBA with the photo's own colours when transparent, else RGB
    blended onto the colour. With a `store`, `image` may be a reference. Raises BadInput, also where the model is not
    built, and ImageNotHeld.
    """
    saliency = MODELS.get(model)
    colour = parse_background(background)
    photo = await (await SentImage.find(image, store)).decode()
    small = await asyncio.to_thread(_shrink, photo.rgb, saliency.side)
    try:
        outputs = await networks.run(saliency.name, image=small)
    except NotBuilt as error:
        raise MODELS.not_built(saliency) from error
    return {"image": await asyncio.to_thread(_cut_out, photo, outputs["alpha"], colour)}


def parse_background(background: str) -> Colour | None:
    """Read a colour as RGB, or None for transparent. Raises BadInput."""
    text = background.strip().lower()
    if text == TRANSPARENT:
        return None
    try:
        colour = ImageColor.getrgb(text)
    except ValueError as error:  # also for more than 100 characters
        raise BadInput(_NOT_A_COLOUR) from error
    if len(colour) == 4:
        raise BadInput('background must be an opaque colour or "transparent".')
    if not all(0 <= level <= 255 for level in colour):  # Pillow admits rgb(999, 0, 0)
        raise BadInput(_NOT_A_COLOUR)
    return colour


def _shrink(rgb: UInt8, side: int) -> UInt8:
    return np.asarray(Image.fromarray(rgb).resize((side, side), Image.Resampling.LANCZOS))


def _cut_out(photo: Photo, alpha: Float32, colour: Colour | None) -> bytes:
    """Resize FP32 [side, side] alpha to the photo (in 8 bits, truncated, as rembg does) and apply it."""
    small = Image.fromarray((alpha * 255).astype(np.uint8))
    matte = np.asarray(small.resize(photo.size, Image.Resampling.LANCZOS))
    if photo.alpha is not None:
        matte = (matte.astype(np.uint16) * photo.alpha // 255).astype(np.uint8)
    if colour is None:
        return png.encode(np.dstack([photo.rgb, matte]))
    backdrop = Image.new("RGB", photo.size, colour)
    return png.encode(
        np.asarray(Image.composite(Image.fromarray(photo.rgb), backdrop, Image.fromarray(matte)))
    )
