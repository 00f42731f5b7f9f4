"""Encoded bytes to arrays, with the limits that keep one request from hurting the others.

The order of checks: byte length, header (format, pixels), decoding, meaning. No pixels are allocated before the header
is within the limits.
"""

import io
from collections.abc import Callable
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
# A PNG has one, but Pillow unpacks any number; the rest is room for these four bytes turning up in data.
MAX_PROFILES = 8
# A PNG of MAX_BYTES has fewer, in the smallest parts that encoders write, 4 KiB.
MAX_CHUNKS = 20_000
FORMATS = ("PNG", "JPEG", "WEBP")

# Pillow unpacks compressed text and colour profiles of a PNG before its pixels: keep them small.
PngImagePlugin.MAX_TEXT_CHUNK = 2**20
PngImagePlugin.MAX_TEXT_MEMORY = 2**20
# The limit on pixels is ours, one sentence for every format; Pillow only warns up to twice its own.
Image.MAX_IMAGE_PIXELS = None

# Samples a pixel of each colour type.
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}

# The transpose that undoes each EXIF orientation.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Those that exchange width and height.
_QUARTER_TURNS = (
    Image.Transpose.TRANSPOSE,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSVERSE,
    Image.Transpose.ROTATE_90,
)

# The divisors of a side by which libjpeg decodes at a lower scale, from fewer coefficients a block.
_JPEG_SCALES = (8, 4, 2)

# Width and height in pixels.
Size = tuple[int, int]


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

    Raises BadInput for anything but such an image within MAX_BYTES and MAX_PIXELS; `what` names the input in its
    sentence.
    """
    upright, _ = _open(data, what)
    return _to_photo(upright)


def decode_reduced(data: bytes, least: Callable[[int, int], Size]) -> tuple[Photo, Size]:
    """As `decode_photo`, but read a large JPEG at a half, a quarter or an eighth of its size.

    `least` gets the whole photo's width and height, as stored, and returns how many of them are needed at least.
    Returns the photo and its whole size, upright.
    """
    upright, size = _open(data, "image", least=least)
    return _to_photo(upright), size


def decode_mask(data: bytes, size: tuple[int, int], what: str = "mask") -> Bool:
    """Decode a mask of the photo's `size` (width, height) to BOOL [H, W]: True where it is brighter than half.

    Transparent pixels of a mask count as black. Raises BadInput, also for a mask that selects nothing or everything.
    """
    upright, _ = _open(data, what, size)
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


def _open(
    data: bytes, what: str, size: Size | None = None, least: Callable[[int, int], Size] | None = None
) -> tuple[Image.Image, Size]:
    """Decode `data` upright, of the given `size` if any, reduced to no less than `least` if given.

    Returns it with its size before any reduction. Raises BadInput for every fault of the file.
    """
    if not data:
        raise BadInput(f"the {what} is empty.")
    if len(data) > MAX_BYTES:
        raise BadInput(f"the {what} has {len(data)} bytes; at most {MAX_BYTES} are accepted.")
    if data.count(b"iCCP") > MAX_PROFILES:
        raise BadInput(f"the {what} holds more than {MAX_PROFILES} colour profiles; save it again.")
    if data.startswith(jpeg.SIGNATURE):
        jpeg.check(data, what)
    elif data.startswith(png.SIGNATURE) and _chunks(data) > MAX_CHUNKS:
        raise BadInput(f"the {what} is a PNG of more than {MAX_CHUNKS} chunks; save it again.")
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow's plugins raise any class on a malformed header
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
            if least:
                _reduce(picture, least(width, height))
            picture.load()
            if picture.mode == "P" and picture.palette is None:
                raise ValueError("no palette")
        except Exception as error:  # as above, for malformed data behind a good header
            raise BadInput(f"the {what} is damaged: its {picture.format} data cannot be decoded.") from error
        turn = _turn(picture)
    upright = picture if turn is None else picture.transpose(turn)
    whole = (height, width) if turn in _QUARTER_TURNS else (width, height)
    if size and whole != size:
        raise _unequal(what, whole, size)
    return upright, whole


def _reduce(picture: Image.Image, least: Size) -> None:
    """Have libjpeg decode at the smallest of its scales that leaves `least`; no effect on other formats."""
    room = min(picture.width // least[0], picture.height // least[1])
    scale = next((scale for scale in _JPEG_SCALES if scale <= room), 1)
    # Pillow chooses the scale by this size.
    picture.draft(None, (max(1, picture.width // scale), max(1, picture.height // scale)))


def _to_photo(upright: Image.Image) -> Photo:
    if not _has_alpha(upright):
        opaque = _to_8_bit(upright)
        return Photo(np.asarray(opaque if opaque.mode == "RGB" else opaque.convert("RGB")))
    rgba = np.asarray(upright.convert("RGBA"))
    alpha = np.ascontiguousarray(rgba[..., 3])
    return Photo(np.ascontiguousarray(rgba[..., :3]), None if (alpha == 255).all() else alpha)


def _chunks(data: bytes) -> int:
    """Count a PNG's chunks. Each has twelve bytes beside its data, the first four its length.

    Pillow spends 10 us on one even if it is empty, and 64 MiB may hold millions.
    """
    count, position = 0, len(png.SIGNATURE)
    while position < len(data) and count <= MAX_CHUNKS:
        position += 12 + int.from_bytes(data[position : position + 4], "big")
        count += 1
    return count


def _is_short(data: bytes, picture: Image.Image) -> bool:
    """True if so few bytes cannot hold so many pixels; Pillow would allocate them all, then fail.

    Deflate shrinks at most 1032 times (zlib's technical details). The PNG specification gives the header's offsets.
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
    """The transpose that brings `picture` upright by its EXIF orientation, if any; unreadable metadata count as none.

    Not ImageOps.exif_transpose: it also rewrites the metadata and so fails on pictures whose other tags are broken,
    and it copies a picture that is upright already.
    """
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # its parser raises any class on malformed metadata
        return None


def _has_alpha(picture: Image.Image) -> bool:
    return picture.has_transparency_data and not picture.mode.startswith("I")


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits; Pillow's own conversion would clip it at 255."""
    if not picture.mode.startswith("I"):
        return picture
    return Image.fromarray((np.asarray(picture).astype(np.uint16) >> 8).astype(np.uint8))
