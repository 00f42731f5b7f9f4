"""Photos to train on and held-out photos; random crops of them."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from nexus_export.errors import BuildError
from numpy.typing import NDArray

# RGB, [H, W, 3].
Photo = NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

# File stems never trained on: the published quality figures are measured on these photos.
HELD_OUT = (
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "Bridge_by_Sander_Klootwijk",
    "picosdeeuropa_by_Aitzol_Berasategi",
    "Dragonfly_by_Bolly",
    "Wine_by_Jakkub_Mede",
)

# Names of four of the held-out photos in demo/photos.
DEMO_NAMES = ("bridge", "mountains", "dragonfly", "wine")

# Larger photos are shrunk to this; no crop scale uses more detail.
LONGEST_SIDE = 2048

# A crop with a standard deviation (of 255) up to this is flat: clear sky, plain walls.
FLAT_STD = 25.0

CROP_ATTEMPTS = 4


def load_photos(folders: Sequence[Path], excluding: Sequence[Path] = ()) -> list[Photo]:
    """Load the photos under `folders`, sorted by path, without held-out ones and names found under `excluding`.

    Raises BuildError if there is none.
    """
    excluded = {*HELD_OUT, *DEMO_NAMES, *(path.stem for path in _photos(excluding))}
    photos = []
    for path in sorted(path for path in _photos(folders) if path.stem not in excluded):
        if (photo := _read(path)) is not None:
            photos.append(_shrink(photo, LONGEST_SIDE))
    if not photos:
        raise BuildError(
            "No photo found to train on; pass a folder of JPEG, PNG or WebP files with --photos."
        )
    return photos


def load_held_out(folders: Sequence[Path]) -> list[Photo]:
    """Load the held-out photos under `folders`, for contact sheets and figures; each name once.

    Raises BuildError if there is none.
    """
    photos: dict[str, Photo] = {}
    for path in sorted(_photos(folders)):
        if path.stem in HELD_OUT + DEMO_NAMES and (photo := _read(path)) is not None:
            photos[path.stem] = photo
    if not photos:
        raise BuildError(f"No held-out photo found to test on ({', '.join(DEMO_NAMES)}, ...).")
    return list(photos.values())


def _photos(folders: Sequence[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]


def _read(path: Path) -> Photo | None:
    decoded = cv2.imread(str(path))
    return None if decoded is None else cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)


def _shrink(photo: NDArray[np.uint8], longest: int) -> Photo:
    scale = longest / max(photo.shape[:2])
    if scale >= 1.0:
        return photo
    height, width = (round(side * scale) for side in photo.shape[:2])
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def random_crop(rng: np.random.Generator, photo: Photo, size: int) -> Photo:
    """Cut [size, size, 3] at a random scale from the whole short side to native, mirrored half of the time."""
    shortest = min(photo.shape[:2])
    # Log-uniform: quarter, half and native scale are equally likely, like photos of every size.
    window = int(np.exp(rng.uniform(np.log(min(size, shortest)), np.log(shortest))))
    y = int(rng.integers(0, photo.shape[0] - window + 1))
    x = int(rng.integers(0, photo.shape[1] - window + 1))
    crop = cv2.resize(photo[y : y + window, x : x + window], (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop, dtype=np.uint8)


def detailed_crop(rng: np.random.Generator, photo: Photo, size: int) -> Photo:
    """The first of a few random crops that is not flat; the last one if all are."""
    for _ in range(CROP_ATTEMPTS):
        crop = random_crop(rng, photo, size)
        if cv2.meanStdDev(crop)[1].mean() > FLAT_STD:
            break
    return crop
