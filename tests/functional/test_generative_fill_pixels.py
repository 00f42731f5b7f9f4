"""Generative fill never changes a pixel outside the mask, for any shape and mode of the photo and the mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest
from nexus_client import Client
from PIL import Image

from tests.functional.support.deployment import PHOTOS
from tests.functional.support.fills import PHOTO, PROMPT
from tests.functional.support.photos import ellipse

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


def blob(width: int, height: int) -> Bool:
    """An ellipse in the middle."""
    return ellipse((height, width), (width // 2, height // 2), (width // 5 + 1, height // 6 + 1))


def corner(width: int, height: int) -> Bool:
    """A rectangle in a corner."""
    mask = np.zeros((height, width), np.bool_)
    mask[: height // 3, : width // 4] = True
    return mask


def stroke(width: int, height: int) -> Bool:
    """Three pixels wide, along an edge."""
    mask = np.zeros((height, width), np.bool_)
    mask[:, -3:] = True
    return mask


def specks(width: int, height: int) -> Bool:
    """About nine single pixels, far apart."""
    mask = np.zeros((height, width), np.bool_)
    mask[1 :: max(2, height // 3), 1 :: max(2, width // 3)] = True
    return mask


MASKS: tuple[Callable[[int, int], Bool], ...] = (blob, corner, stroke, specks)


@dataclass(frozen=True)
class Photo:
    """A demo photo in the Pillow mode `mode`, scaled to `size` (width, height) if given."""

    name: str
    mode: str = "RGB"
    size: tuple[int, int] | None = None

    def load(self) -> Image.Image:
        photo = Image.open(PHOTOS / f"{self.name}.jpg").convert("RGB")
        if self.mode == "RGBA":  # from clear on the left to opaque on the right
            photo.putalpha(Image.linear_gradient("L").rotate(90).resize(photo.size))
        photo = photo.convert(self.mode)
        return photo if self.size is None else photo.resize(self.size)


# With whole photos the tests would mostly encode PNGs; a quarter of a megapixel is enough for every shape.
SMALL = (
    Photo("astronaut", size=(256, 256)),
    Photo("bridge", size=(513, 255)),
    Photo("chelsea"),
    Photo("coffee", "L", (300, 200)),
    Photo("coffee", "RGBA", (300, 200)),
    Photo("mountains", "P", (320, 240)),
    Photo("rocket", size=(97, 427)),  # longer than any working size
    Photo("wine", size=(24, 17)),
)
PAIRS = [(photo, mask) for photo in SMALL for mask in MASKS]
TWELVE_MEGAPIXELS = Photo("dragonfly", size=(4000, 3000))
PAIRS += [(TWELVE_MEGAPIXELS, blob), (TWELVE_MEGAPIXELS, stroke)]


def label(value: Photo | Callable[[int, int], Bool]) -> str:
    return f"{value.name} {value.mode}" if isinstance(value, Photo) else value.__name__


def filled(client: Client, photo: Image.Image, mask: Bool) -> UInt8:
    return np.asarray(client.generative_fill(photo, mask, PROMPT, steps=1, strength=1.0).image)


@pytest.mark.parametrize(("source", "shape"), PAIRS, ids=label)
def test_unmasked_pixels_are_never_touched(
    client: Client, source: Photo, shape: Callable[[int, int], Bool]
) -> None:
    photo = source.load()
    mask = shape(*photo.size)
    before = np.asarray(photo if photo.mode == "RGBA" else photo.convert("RGB"))
    after = filled(client, photo, mask)
    assert after.shape == before.shape
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert share_changed(before, after, mask) > 0.5


def share_changed(before: UInt8, after: UInt8, mask: Bool) -> float:
    """The share of the mask's pixels that differ.

    After one step a fill is far from the photo, and few pixels agree in all channels by chance. Half leaves room for
    a mask of nine pixels.
    """
    return float((after[mask] != before[mask]).any(axis=-1).mean())


def test_a_thin_stroke_is_painted(client: Client) -> None:
    """Thinner than one latent, which is 8 pixels wide, through the middle of the photo."""
    photo = Image.open(PHOTO).convert("RGB")
    width, height = photo.size
    mask = np.zeros((height, width), np.bool_)
    mask[height // 4 : -height // 4, width // 2 : width // 2 + 2] = True
    before, after = np.asarray(photo), filled(client, photo, mask)
    np.testing.assert_array_equal(after[~mask], before[~mask])
    assert share_changed(before, after, mask) > 0.5
