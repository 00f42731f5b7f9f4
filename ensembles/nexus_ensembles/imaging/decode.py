"""Encoded bytes to arrays, with the limits that keep one request from hurting the others.

The order of checks: byte length, header (format, pixels), decoding, meaning. Nothing is allocated for a picture
before its header has been found within the limits.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from nexus_ensembles.errors import BadInput
from nexus_ensembles.imaging import jpeg, png
from nexus_ensembles.networks import Bool, UInt8

MAX_BYTES = 64 * 2**20
MAX_PIXELS = 50_000_000
# The longest side that a JPEG can have.
MAX_SIDE = 65_535
# A PNG has one, of which Pillow would unpack any number; the rest is room for these four bytes turning up in data.
MAX_PROFILES = 8
# A PNG of MAX_BYTES in the smallest parts that encoders write, 4 KiB, has fewer.
MAX_CHUNKS = 20_000
FORMATS = ("PNG", "JPEG", "WEBP")

# Compressed text and colour profiles inside a PNG are unpacked before its pixels are looked at: keep them small.
PngImagePlugin.MAX_TEXT_CHUNK = 2**20
PngImagePlugin.MAX_TEXT_MEMORY = 2**20
# The limit on pixels is ours, one sentence for every format; Pillow would only warn up to twice its own.
Image.MAX_IMAGE_PIXELS = None

# Samples a pixel of each colour type.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

# What undoes each EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Photo:
    """A decoded image, upright.

    `rgb` is UINT8 [H, W, 3]. `alpha` is UINT8 [H, W], or None for an opaque image; the networks see `rgb` alone.
    """

    rgb: UInt8
    alpha: UInt8 | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.rgb.shape[1], self.rgb.shape[0]


def decode_photo(data: bytes, what: str = "image") -> Photo:
    """Decode a PNG, JPEG or WebP of any mode into 8-bit RGB, its EXIF orientation applied.

    `what` names the input in the sentence of a BadInput, which is raised for anything that is not such an image
    within MAX_BYTES and MAX_PIXELS.
    """
    upright = _open(data, what)
    if not _has_alpha(upright):
        opaque = _to_8_bit(upright)
        return Photo(np.asarray(opaque if opaque.mode == "RGB" else opaque.convert("RGB")))
    rgba = np.asarray(upright.convert("RGBA"))
    alpha = np.ascontiguousarray(rgba[..., 3])
    return Photo(np.ascontiguousarray(rgba[..., :3]), None if (alpha == 255).all() else alpha)


def decode_mask(data: bytes, size: tuple[int, int], what: str = "mask") -> Bool:
    """Decode a mask of the photo's `size` (width, height) to BOOL [H, W]: True where it is brighter than half.

    Transparent pixels of a mask count as black. Raises BadInput, also for a mask that selects nothing or everything.
    """
    upright = _open(data, what, size)
    if _has_alpha(upright):
        grey, alpha = upright.convert("LA").split()
        selected = np.minimum(np.asarray(grey), np.asarray(alpha)) > 127
    else:
        selected = np.asarray(_to_8_bit(upright).convert("L")) > 127
    if not selected.any():
        raise BadInput(f"the {what} selects nothing: it has no pixel brighter than half.")
    if selected.all():
        raise BadInput(f"the {what} covers the whole image, which leaves nothing to fill it from.")
    return np.asarray(selected)


def _open(data: bytes, what: str, size: tuple[int, int] | None = None) -> Image.Image:
    """Decode `data`, upright, of the given `size` if any; every fault of the file becomes a BadInput."""
    if not data:
        raise BadInput(f"the {what} is empty.")
    if len(data) > MAX_BYTES:
        raise BadInput(f"the {what} has {len(data)} bytes; at most {MAX_BYTES} are accepted.")
    if data.count(b"iCCP") > MAX_PROFILES:
        raise BadInput(f"the {what} holds more than {MAX_PROFILES} colour profiles; save it anew.")
    if data.startswith(jpeg.SIGNATURE):
        jpeg.check(data, what)
    elif data.startswith(png.SIGNATURE) and _chunks(data) > MAX_CHUNKS:
        raise BadInput(f"the {what} is a PNG of more than {MAX_CHUNKS} chunks; save it anew.")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow's plugins raise whatever a malformed header leads them to
        raise BadInput(f"the {what} is not a readable PNG, JPEG or WebP file.") from error
    with picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise BadInput(
                f"the {what} is {width} x {height} pixels; at most {MAX_PIXELS // 1_000_000} megapixels are accepted."
            )
        if max(width, height) > MAX_SIDE:
            raise BadInput(f"the {what} is {width} x {height} pixels; a side may have at most {MAX_SIDE}.")
        if min(width, height) < 1:
            raise BadInput(f"the {what} has no pixels.")
        # Before decoding, but a PNG's orientation may follow its pixels.
        if size and sorted(size) != sorted(picture.size):
            raise _unequal(what, picture.size, size)
        try:
            if _is_short(data, picture):
                raise ValueError("too short for its pixels")
            picture.load()
            if picture.mode == "P" and picture.palette is None:
                raise ValueError("no palette")
        except Exception as error:  # as above, for malformed data behind a good header
            raise BadInput(f"the {what} is damaged: its {picture.format} data cannot be decoded.") from error
        turn = _turn(picture)
    upright = picture if turn is None else picture.transpose(turn)
    if size and upright.size != size:
        raise _unequal(what, upright.size, size)
    return upright


def _chunks(data: bytes) -> int:
    """The number of a PNG's chunks, of which each has four bytes of length and twelve in all beside its data.

    Pillow spends 10 us on one even if it is empty, and 64 MiB may hold millions.
    """
    count, position = 0, len(png.SIGNATURE)
    while position < len(data) and count <= MAX_CHUNKS:
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        count += 1
    return count


def _is_short(data: bytes, picture: Image.Image) -> bool:
    """Whether so few bytes cannot hold so many pixels; else Pillow would take memory for them all, then find out.

    Deflate shrinks at most 1032 times (zlib's technical details). Where the header lies, see the PNG specification.
    """
    if picture.format != "PNG":
        return picture.format != "WEBP" and jpeg.is_short(data)
    width, height = picture.size
    depth, colour_type = data[24], data[25]
    bits = depth * _PNG_CHANNELS.get(colour_type, 0)
    return len(data) * 1032 < height * (width * bits // 8)


def _unequal(what: str, size: tuple[int, int], photo: tuple[int, int]) -> BadInput:
    return BadInput(
        f"the {what} is {size[0]} x {size[1]} pixels but the image is {photo[0]} x {photo[1]}; "
        "they must be the same size."
    )


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """How to bring `picture` upright by its EXIF orientation; metadata that cannot be read say nothing.

    Not ImageOps.exif_transpose, which also writes the metadata anew and so fails on pictures whose other tags
    are broken, and which copies a picture that is upright already.
    """
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # its parser raises whatever malformed metadata lead it to
        return None


def _has_alpha(picture: Image.Image) -> bool:
    return picture.has_transparency_data and not picture.mode.startswith("I")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion would clip it at 255."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
