"""The real photos that networks are calibrated and measured on, and the forms in which networks take them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nexus_export.errors import QualityError
from nexus_export.families.sam.constants import IMAGE_SIZE, PADDING_COLOUR

#: Photos that INT8 ranges are taken from, and those that the result is measured on: no photo is both.
Split = Literal["calibration", "test"]
Pixels = NDArray[np.uint8]

#: Of each split. More photos than these would cost time and change no figure by much.
PHOTOS_MOST = 8
#: Larger photos are shrunk: no network takes more pixels a side without a crop.
LONGEST_SIDE = 1280

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class Photo:
    """`pixels` are UINT8 [H, W, 3], RGB."""

    name: str
    pixels: Pixels

    def stretched(self, height: int, width: int) -> Pixels:
        """UINT8 [height, width, 3], as remove_background resizes: whole, whatever the sides' ratio."""
        return _resized(self.pixels, height, width, Image.Resampling.LANCZOS)

    def framed(self) -> Pixels:
        """UINT8 [1024, 1024, 3], as SAM 2 resizes: whole as well, but bilinear."""
        return _resized(self.pixels, IMAGE_SIZE, IMAGE_SIZE, Image.Resampling.BILINEAR)

    def letterboxed(self) -> Pixels:
        """UINT8 [1024, 1024, 3], as SAM resizes: the longest side 1024, at the top left, the rest padding."""
        height, width = self.inner
        frame = np.empty((IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
        frame[:] = PADDING_COLOUR
        frame[:height, :width] = _resized(self.pixels, height, width, Image.Resampling.BILINEAR)
        return frame

    @property
    def inner(self) -> tuple[int, int]:
        """Height and width of the photo inside the letterbox."""
        height, width = self.pixels.shape[:2]
        scale = IMAGE_SIZE / max(height, width)
        return int(height * scale + 0.5), int(width * scale + 0.5)

    def cropped(self, height: int, width: int, rng: np.random.Generator) -> Pixels:
        """UINT8 [height, width, 3]: a place of the photo, after a resize in which the crop just fits."""
        scale = max(height / self.pixels.shape[0], width / self.pixels.shape[1])
        rows, columns = (
            max(least, round(side * scale)) for side, least in zip(self.pixels.shape, (height, width))
        )
        fitted = _resized(self.pixels, rows, columns, Image.Resampling.LANCZOS)
        top, left = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)
        return fitted[top : top + height, left : left + width]


def read_photos(folder: Path, split: Split) -> list[Photo]:
    """The photos of a folder that belong to `split`: by name, every second one; at most `PHOTOS_MOST`.

    Raises:
        QualityError: the folder holds fewer than two photos, or one cannot be read.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if len(found) < 2:
        raise QualityError(
            f"quality is measured on real photos, and {folder} holds {len(found) or 'none'}; "
            "name a folder with two or more, JPEG, PNG or WebP, with --photos."
        )
    return [_read(path) for path in found[("calibration", "test").index(split) :: 2][:PHOTOS_MOST]]


def _read(path: Path) -> Photo:
    try:
        with Image.open(path) as image:
            image.draft(
                "RGB", (LONGEST_SIDE, LONGEST_SIDE)
            )  # a large JPEG is decoded at a fraction of its size
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError):
        raise QualityError(f"the photo {path} cannot be read; remove it or name another folder.") from None
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return Photo(path.stem, np.asarray(picture))


def _resized(pixels: Pixels, height: int, width: int, filtering: Image.Resampling) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width, height), filtering))
