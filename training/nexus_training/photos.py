"""Photos for training: decoded once, kept as bytes, cropped at random scales."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from nexus_export.errors import BuildError
from numpy.typing import NDArray

# [H, W, 3], RGB.
Photo = NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

# File stems that are never trained on: the quality figures are measured on them.
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

# The same photos under the names they have in demo/photos.
DEMO_NAMES = ("bridge", "mountains", "dragonfly", "wine")

# Photos are kept at most this large; more is detail that no crop scale uses.
LONGEST_SIDE = 2048

# Standard deviation, of 255, up to which a crop counts as flat: clear sky, plain walls.
FLAT_DEVIATION = 25.0

CROPS_TRIED = 4


def load_photos(folders: Sequence[Path], besides: Sequence[Path] = ()) -> list[Photo]:
    """Every photo under `folders` in a fixed order, but for those held out and those named as one in `besides`.

    Raises:
        BuildError: there is none.
    """
    left_out = {*HELD_OUT, *DEMO_NAMES, *(path.stem for path in _photos(besides))}
    photos = []
    for path in sorted(path for path in _photos(folders) if path.stem not in left_out):
        decoded = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if decoded is not None:
            rgb = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
            photos.append(_shrink(rgb, LONGEST_SIDE))
    if not photos:
        raise BuildError(
            "No photo was found to train on; name a folder of JPEG, PNG or WebP files with --photos."
        )
    return photos


def load_held_out(folders: Sequence[Path]) -> list[Photo]:
    """The photos under `folders` that are never trained on, for sample sheets and figures; each name once.

    Raises:
        BuildError: there is none.
    """
    paths = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
    )
    photos: dict[str, Photo] = {}
    for path in paths:
        pixels = cv2.imread(str(path)) if path.stem in HELD_OUT + DEMO_NAMES else None
        if pixels is not None:
            photos[path.stem] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8, copy=False)
    if not photos:
        raise BuildError(f"None of the held-out photos was found to test on ({', '.join(DEMO_NAMES)}, ...).")
    return list(photos.values())


def _photos(folders: Sequence[Path]) -> list[Path]:
    return [path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]


def _shrink(photo: NDArray[np.uint8], longest: int) -> Photo:
    scale = longest / max(photo.shape[:2])
    if scale >= 1.0:
        return photo
    height, width = (round(side * scale) for side in photo.shape[:2])
    return cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA).astype(np.uint8)


def random_crop(rng: np.random.Generator, photo: Photo, size: int) -> Photo:
    """A [size, size, 3] crop at a random scale between the whole short side and native, maybe mirrored."""
    shortest = min(photo.shape[:2])
    # Log-uniform: half, quarter and native scale are equally likely, as photos of every size are.
    window = int(np.exp(rng.uniform(np.log(min(size, shortest)), np.log(shortest))))
    y = int(rng.integers(0, photo.shape[0] - window + 1))
    x = int(rng.integers(0, photo.shape[1] - window + 1))
    crop = cv2.resize(photo[y : y + window, x : x + window], (size, size), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return np.ascontiguousarray(crop, dtype=np.uint8)


def detailed_crop(rng: np.random.Generator, photo: Photo, size: int) -> Photo:
    """The first random crop with something to learn in it, out of a few; the last one of a flat photo."""
    for _ in range(CROPS_TRIED):
        crop = random_crop(rng, photo, size)
        if cv2.meanStdDev(crop)[1].mean() > FLAT_DEVIATION:
            break
    return crop
