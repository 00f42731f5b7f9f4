"""One photo in every format and mode, each with its pixels."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.functional.support.deployment import PHOTOS
from tests.functional.support.malformed_files import encode, png

UInt8 = npt.NDArray[np.uint8]
DILATE = 3
ORIENTATION = 0x0112
# The inverse of what turns each EXIF orientation upright: the order of the pixels in the file.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[:, ::-1],
}


@functools.cache
def photo() -> UInt8:
    """The coffee cup, UINT8 [160, 240, 3]: the spoon is at (140, 120)."""
    return np.asarray(Image.open(PHOTOS / "coffee.jpg").convert("RGB").resize((240, 160)))


@functools.cache
def grey() -> UInt8:
    """The photo in grey, UINT8 [160, 240]."""
    return np.asarray(Image.fromarray(photo()).convert("L"))


@functools.cache
def hole() -> npt.NDArray[np.bool_]:
    """A small hole off the middle, BOOL [160, 240]."""
    mask = np.zeros((160, 240), np.bool_)
    mask[100:120, 130:160] = True
    return mask


@functools.cache
def outside() -> npt.NDArray[np.bool_]:
    """True outside the dilated hole: an ellipse of size 3 is a cross, one pixel up, down, left and right."""
    padded = np.pad(hole(), 1)
    grown: npt.NDArray[np.bool_] = (
        hole() | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    )
    return ~grown


@functools.cache
def alpha() -> UInt8:
    """A gradient from transparent to opaque, UINT8 [160, 240]."""
    return np.broadcast_to(np.linspace(0, 255, 240).astype(np.uint8), (160, 240)).copy()


def deep(pixels: UInt8) -> bytes:
    """UINT8 [H, W, C] as a 16-bit PNG, which Pillow does not write: each sample is its byte twice over."""
    height, width, channels = pixels.shape
    rows = np.repeat(pixels, 2, axis=2).reshape(height, -1)
    lines = np.hstack([np.zeros((height, 1), np.uint8), rows]).tobytes()
    return png(width, height, 16, {1: 0, 3: 2, 2: 4, 4: 6}[channels], zlib.compress(lines))


def rgba() -> Image.Image:
    return Image.fromarray(np.dstack([photo(), alpha()]))


def palette() -> Image.Image:
    return Image.fromarray(photo()).quantize(64)


def decoded(data: bytes, mode: str = "RGB") -> UInt8:
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


def other_frames() -> list[Image.Image]:
    """The further frames of an animation, which differ from the photo."""
    return [Image.new("RGB", (240, 160), colour) for colour in ("red", "green")]


# A file, and its RGB pixels UINT8 [H, W, 3].
OPAQUE: dict[str, Callable[[], tuple[bytes, UInt8]]] = {
    "rgb png": lambda: (encode(Image.fromarray(photo())), photo()),
    "grey png": lambda: (encode(Image.fromarray(grey())), np.repeat(grey()[..., None], 3, 2)),
    "1-bit png": lambda: (
        encode(Image.fromarray(grey() > 127)),
        np.repeat(((grey() > 127) * np.uint8(255))[..., None], 3, 2),
    ),
    "16-bit grey png": lambda: (
        encode(Image.fromarray(grey().astype(np.uint16) * 257)),
        np.repeat(grey()[..., None], 3, 2),
    ),
    "16-bit rgb png": lambda: (deep(photo()), photo()),
    "palette png": lambda: (encode(palette()), np.asarray(palette().convert("RGB"))),
    "opaque rgba png": lambda: (encode(Image.fromarray(photo()).convert("RGBA")), photo()),
    "lossless webp": lambda: (encode(Image.fromarray(photo()), "WEBP", lossless=True), photo()),
    "animated png": lambda: (
        encode(Image.fromarray(photo()), save_all=True, append_images=other_frames()),
        photo(),
    ),
    "animated webp": lambda: (
        encode(Image.fromarray(photo()), "WEBP", save_all=True, append_images=other_frames(), lossless=True),
        photo(),
    ),
    "png with a broken colour profile": lambda: (
        encode(Image.fromarray(photo()), icc_profile=b"no profile"),
        photo(),
    ),
}
# Lossy files; their pixels are what Pillow decodes.
LOSSY: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: encode(Image.fromarray(photo()), "JPEG"),
    "progressive jpeg": lambda: encode(Image.fromarray(photo()), "JPEG", progressive=True),
    "grey jpeg": lambda: encode(Image.fromarray(grey()), "JPEG"),
    "cmyk jpeg": lambda: encode(Image.fromarray(photo()).convert("CMYK"), "JPEG", quality=95),
    "multi-picture jpeg": lambda: encode(
        Image.fromarray(photo()), "MPO", save_all=True, append_images=other_frames()
    ),
    "webp": lambda: encode(Image.fromarray(photo()), "WEBP"),
}
TRANSLUCENT: dict[str, Callable[[], tuple[bytes, UInt8, UInt8]]] = {
    "rgba png": lambda: (encode(rgba()), photo(), alpha()),
    "16-bit rgba png": lambda: (deep(np.dstack([photo(), alpha()])), photo(), alpha()),
    "grey and alpha png": lambda: (
        encode(Image.fromarray(np.dstack([grey(), alpha()]))),
        np.repeat(grey()[..., None], 3, 2),
        alpha(),
    ),
    "palette png with a transparent colour": lambda: (
        encode(palette(), transparency=0),
        np.asarray(palette().convert("RGB")),
        np.where(np.asarray(palette()) == 0, 0, 255).astype(np.uint8),
    ),
    # exact: without it, WebP replaces the colours of transparent pixels
    "lossless webp with alpha": lambda: (encode(rgba(), "WEBP", lossless=True, exact=True), photo(), alpha()),
}
