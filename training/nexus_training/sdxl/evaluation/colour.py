"""Which of the trained colours a painted region shows."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nexus_training.sdxl.captions import COLOURS, MATERIALS, SHAPES, Wish
from nexus_training.sdxl.evaluation.cases import mask_about
from nexus_training.sdxl.photo_crops import PhotoCrops
from nexus_training.sdxl.pictures import place

Float = NDArray[np.float64]

# Difference to the background's estimate, 0..1, from which a pixel counts as the object.
CHANGED = 0.08

# Of the looked-at pixels: where fewer differ from the background, nothing was painted.
LEAST_CHANGED = 0.3

# Of the object's pixels that have the asked name itself, before its shades count: black and white are not grey.
LEAST_OWN = 0.25

# Below this max - min of RGB a pixel is a grey.
LOW_CHROMA = 0.11


def object_colours(painted: Float, known: Float, inside: NDArray[np.bool_]) -> dict[str, float]:
    """Shares of colour names among the object's pixels; empty where (nearly) nothing was painted.

    `painted` and `known` are [H, W, 3] in 0..1: the fill, and an estimate of the background without the
    object. The object is where they differ; its colour is judged by hue, so that shading does not count.
    """
    difference = np.abs(painted - known).max(-1)
    pixels = painted[inside & (difference > CHANGED)]
    if len(pixels) < LEAST_CHANGED * inside.sum():
        return {}
    names = name_colours(pixels)
    found, counts = np.unique(names, return_counts=True)
    return {str(name): float(count) / len(names) for name, count in zip(found, counts, strict=True)}


def name_colours(pixels: Float) -> NDArray[np.str_]:
    """The name of each pixel [n, 3]: greys by their lightness, the others by hue, brown and pink by lightness too."""
    high, low = pixels.max(1), pixels.min(1)
    chroma = high - low
    hue = _hue(pixels, high, np.maximum(chroma, 1e-6))
    edges = [(14, "red"), (40, "orange"), (70, "yellow"), (160, "green"), (200, "turquoise"), (258, "blue")]
    edges += [(300, "purple"), (346, "pink"), (361, "red")]
    names = np.array([name for _, name in edges])[
        np.searchsorted([edge for edge, _ in edges], hue, side="right")
    ]
    light = (high + low) / 2
    saturation = chroma / np.maximum(high, 1e-6)
    warm = (names == "orange") | (names == "red")
    names = np.where(warm & (hue < 60) & (hue > 8) & (high < 0.62), "brown", names)
    # A red that is light without shading towards white is pink.
    names = np.where((names == "red") & (saturation < 0.6) & (high > 0.72), "pink", names)
    grey = (chroma < LOW_CHROMA) | (high < 0.14)
    greys = np.where(light < 0.28, "black", np.where(light < 0.68, "grey", "white"))
    found: NDArray[np.str_] = np.where(grey, greys, names)
    return found


def _hue(pixels: Float, high: Float, chroma: Float) -> Float:
    red, green, blue = pixels.T
    sector = np.where(
        high == red,
        (green - blue) / chroma % 6,
        np.where(high == green, (blue - red) / chroma + 2, (red - green) / chroma + 4),
    )
    degrees: Float = 60 * sector
    return degrees


# Names that the same paint takes in shadow or in full light; they count for the asked colour.
NEIGHBOURS = {
    "black": ("grey",),
    "grey": ("black", "white"),
    "white": ("grey",),
    "brown": ("orange", "red"),
    "orange": ("brown",),
}


def shows(asked: str, shares: dict[str, float]) -> bool:
    """Whether the asked colour is the most frequent one, its shades counted with it."""
    if shares.get(asked, 0.0) < LEAST_OWN:
        return False
    shades = {asked, *NEIGHBOURS.get(asked, ())}
    own = sum(share for name, share in shares.items() if name in shades)
    others = max((share for name, share in shares.items() if name not in shades), default=0.0)
    return own > others


def judge_renders(photos: PhotoCrops, seed: int, count: int = 200) -> tuple[float, float]:
    """How the judge of colours does on true renders: the share it calls right, the most that a fill can score.

    And the share that it calls right when another of the colours is asked for: what it lets pass.
    """
    rng = np.random.default_rng((seed, 7))
    names = list(COLOURS)
    colours = rng.integers(len(names), size=count)
    others = (colours + rng.integers(1, len(names), size=count)) % len(names)
    wishes = [
        Wish(int(rng.integers(len(SHAPES))), int(colour), int(rng.integers(len(MATERIALS))), -1, 0.8, "")
        for colour in colours
    ]
    images = photos.crops(rng, count)
    pictures, field = place(rng, wishes, images)
    right = passed = 0
    for index in range(count):
        inside = (field[index] < 0).cpu().numpy()
        rows, columns = np.nonzero(inside)
        x, y = float(columns.min() + columns.max()) / 2, float(rows.min() + rows.max()) / 2
        halves = (float(np.ptp(columns) + 1) / 2, float(np.ptp(rows) + 1) / 2)
        _, core = mask_about(x, y, halves, box=True)
        shares = object_colours(_array(pictures[index]), _array(images[index]), core & inside)
        right += shows(names[colours[index]], shares)
        passed += shows(names[others[index]], shares)
    return right / count, passed / count


def _array(image: Tensor) -> Float:
    found: Float = image.permute(1, 2, 0).cpu().numpy().astype(np.float64)
    return found
