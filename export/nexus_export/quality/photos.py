"""The real photos that networks are calibrated and measured on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nexus_export.errors import QualityError

# INT8's ranges come from the calibration photos, figures from the test photos: no photo is both.
Split = Literal["calibration", "test"]
Pixels = NDArray[np.uint8]

# In each split. More photos would cost time and change no figure by much.
MAX_PHOTOS = 8
# Larger photos are shrunk: no network takes more pixels a side without a crop.
LONGEST_SIDE = 1280

_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


@dataclass(frozen=True)
class Photo:
    """`pixels` are UINT8 [H, W, 3], RGB."""

    name: str
    pixels: Pixels

    def cropped(self, height: int, width: int, rng: np.random.Generator) -> Pixels:
        """UINT8 [height, width, 3]: a place of the photo, after a resize in which the crop just fits."""
        scale = max(height / self.pixels.shape[0], width / self.pixels.shape[1])
        rows, columns = (
            max(least, round(side * scale)) for side, least in zip(self.pixels.shape, (height, width))
        )
        fitted = np.asarray(Image.fromarray(self.pixels).resize((columns, rows), Image.Resampling.LANCZOS))
        top, left = rng.integers(0, rows - height + 1), rng.integers(0, columns - width + 1)
        return fitted[top : top + height, left : left + width]


def read_photos(folder: Path) -> dict[Split, list[Photo]]:
    """The photos of a folder, by name in turn for calibration and for test; at most `MAX_PHOTOS` for each.

    Raises QualityError if the folder holds fewer than two photos, or one cannot be read.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    if len(found) < 2:
        raise QualityError(
            f"quality is measured on real photos, and {folder} holds {len(found) or 'none'}; "
            "name a folder with two or more, JPEG, PNG or WebP, with --photos."
        )
    return {
        split: [_read(path) for path in found[first::2][:MAX_PHOTOS]]
        for first, split in enumerate(get_args(Split))
    }


def _read(path: Path) -> Photo:
    try:
        with Image.open(path) as image:
            # Decodes a large JPEG at a fraction of its size.
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
            picture = image.convert("RGB")
    except (OSError, UnidentifiedImageError):
        raise QualityError(f"the photo {path} cannot be read; remove it or name another folder.") from None
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return Photo(path.stem, np.asarray(picture))
