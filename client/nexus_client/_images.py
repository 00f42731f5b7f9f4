"""Images and masks: from the forms that callers hold to encoded bytes, and back. Knows nothing of requests."""

from __future__ import annotations

import hashlib
import io
import os
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from .exceptions import InputNotFound, InvalidInput, ServerError

# Where an image can be sent: a server's address, and one of its models.
Place = tuple[str, str]

# A smaller image is always sent whole: it costs less than the second round trip where it is no longer held.
LEAST_BYTES_BY_REFERENCE = 4096


@dataclass(frozen=True)
class EncodedImage:
    """One image, read or encoded once, for several calls.

    Usage:

        photo = client.open("cat.jpg")
        client.segment(photo, points=[(120, 80)])
        client.segment(photo, points=[(120, 80), (300, 90)], labels=[1, 0])

    The server keeps what it has made of an image, so the second click costs a fraction of the first. The image itself
    goes once to each operation of a server; later calls send a reference of 71 bytes, and the image again only where
    the server no longer holds it. `encoded`: the image's bytes.
    """

    encoded: bytes
    _places: set[Place] = field(default_factory=set, init=False, repr=False, compare=False)

    @cached_property
    def reference(self) -> bytes:
        """Names the image to a server that holds it. Keep it as secret as the image: it is all that an edit needs."""
        return b"sha256:" + hashlib.sha256(self.encoded).hexdigest().encode()

    def sent_to(self, place: Place) -> None:
        """Take note that `place` has seen this image."""
        if len(self.encoded) >= LEAST_BYTES_BY_REFERENCE:
            self._places.add(place)

    def was_sent_to(self, place: Place) -> bool:
        """Whether `place` has seen this image, and may still hold it."""
        return place in self._places

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.encoded)} bytes)"


BytesLike = bytes | bytearray | memoryview

# A path, encoded bytes (PNG, JPEG, WebP), a uint8 array [H, W], [H, W, 3] or [H, W, 4], a PIL image, or the result of
# `Client.open`.
ImageInput = str | os.PathLike[str] | BytesLike | npt.NDArray[np.uint8] | Image.Image | EncodedImage

# As `ImageInput`, white (255) inside; or a bool array [H, W], True inside.
MaskInput = ImageInput | npt.NDArray[np.bool_]

# A gRPC message holds at most 2**31 - 1 bytes, and a request may carry two images.
MAX_ENCODED_BYTES = 1_000_000_000

# PNG is lossless at every level; level 1 brings most of the compression, and level 6 takes several times longer.
PNG_COMPRESSION = 1

PNG_MODES = {"1", "L", "LA", "I;16", "I;16B", "P", "RGB", "RGBA"}


def encode_image(image: ImageInput, role: str = "image") -> bytes:
    """Return the encoded bytes to send; paths and bytes are sent as they are, the rest becomes PNG.

    The server turns files upright by their EXIF orientation; a PIL image or an array is sent as its pixels stand.
    `role` names the argument in errors. Raises `InvalidInput`, or `InputNotFound` for a missing file.
    """
    if isinstance(image, EncodedImage):
        return image.encoded
    if isinstance(image, (str, os.PathLike)):
        return _sendable(_read(Path(image), role), role)
    if isinstance(image, BytesLike):
        return _sendable(bytes(image), role)
    if isinstance(image, np.ndarray):
        return _png(_from_array(image, role))
    if isinstance(image, Image.Image):
        return _png(_from_pil(image, role))
    raise InvalidInput(
        f"{role} must be a path, encoded bytes, a numpy array or a PIL image, not {type(image).__name__}"
    )


def encode_mask(mask: MaskInput, role: str = "mask") -> bytes:
    """As `encode_image`; a bool array [H, W] becomes 0 and 255."""
    if isinstance(mask, np.ndarray):
        return _png(_from_array(_grey(mask, role), role))
    return encode_image(mask, role)


def decode_image(encoded: bytes) -> Image.Image:
    """Return the server's image, loaded, in the mode it was sent in. Raises `ServerError` if it cannot be read."""
    try:
        image = Image.open(io.BytesIO(encoded))
        image.load()
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ServerError(f"the server's answer holds an image that cannot be read: {error}") from None
    return image


def decode_mask(encoded: bytes) -> npt.NDArray[np.bool_]:
    """Return a grey image as bool [H, W], True where it is brighter than 127."""
    return np.asarray(decode_image(encoded).convert("L")) > 127


def _read(path: Path, role: str) -> bytes:
    try:
        if path.stat().st_size > MAX_ENCODED_BYTES:
            raise InvalidInput(f"{role} file {str(path)!r} is larger than {MAX_ENCODED_BYTES} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise InputNotFound(f"{role} file {str(path)!r} does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidInput(f"{role} file {str(path)!r} cannot be read: {reason}") from None


def _sendable(encoded: bytes, role: str) -> bytes:
    if not encoded:
        raise InvalidInput(f"{role} is empty (0 bytes)")
    if len(encoded) > MAX_ENCODED_BYTES:
        raise InvalidInput(f"{role} is larger than {MAX_ENCODED_BYTES} bytes")
    return encoded


def _grey(mask: npt.NDArray[Any], role: str) -> npt.NDArray[Any]:
    if mask.dtype == np.bool_:
        return mask.astype(np.uint8) * np.uint8(255)
    if mask.size and mask.max() == 1:
        raise InvalidInput(f"{role} holds only 0 and 1: pass a bool array, or 0 and 255")
    return mask


def _from_array(array: npt.NDArray[Any], role: str) -> Image.Image:
    if array.dtype != np.uint8:
        raise InvalidInput(f"{role} array must be uint8 with values 0 to 255, not {array.dtype}")
    channels = array.shape[2:]
    if array.ndim not in (2, 3) or channels not in ((), (3,), (4,)) or not array.size:
        shape = " x ".join(map(str, array.shape))
        raise InvalidInput(f"{role} array must be H x W, H x W x 3 or H x W x 4, not {shape or 'a scalar'}")
    return Image.fromarray(np.ascontiguousarray(array))


def _from_pil(image: Image.Image, role: str) -> Image.Image:
    if not (image.width and image.height):
        raise InvalidInput(f"{role} has no pixels ({image.width}x{image.height})")
    if image.mode == "F":
        raise InvalidInput(f"{role} is a floating-point image: convert it to L or RGB first")
    if image.mode == "I":
        return _from_int32(image, role)
    if image.mode in PNG_MODES:
        return image
    if image.mode == "La":  # the one mode without a conversion to RGBA
        image = image.convert("LA")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _from_int32(image: Image.Image, role: str) -> Image.Image:
    """Mode "I" defines no white, and PNG would store it as 16 bits: only values from 0 to 255 are unambiguous."""
    levels = np.asarray(image)
    low, high = int(levels.min()), int(levels.max())
    if low < 0 or high > 255:
        raise InvalidInput(
            f"{role} is an image of mode I with values from {low} to {high}: convert it to L (0 to 255) or "
            "I;16 (0 to 65535) first"
        )
    return image.convert("L")


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=PNG_COMPRESSION)
    return buffer.getvalue()
