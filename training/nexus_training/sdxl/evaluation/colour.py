"""A rule that names the colour of a painted region."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nexus_training.sdxl.captions import COLOURS, MATERIALS, SHAPES, SceneSpec
from nexus_training.sdxl.evaluation.cases import ellipse_or_box
from nexus_training.sdxl.photo_crops import PhotoCrops
from nexus_training.sdxl.pictures import compose

Float = NDArray[np.float64]

# Difference (0..1) from the estimated background above which a pixel belongs to the object.
CHANGED = 0.08

# Share of pixels that must differ from the background; with fewer, nothing was painted.
MIN_CHANGED = 0.3

# Share of the object's pixels that must have the asked name itself, without its shades: black and white are not grey.
MIN_OWN = 0.25

# Pixels whose max - min of RGB is below this are grey.
LOW_CHROMA = 0.11


def object_colours(painted: Float, known: Float, inside: NDArray[np.bool_]) -> dict[str, float]:
    """Shares of colour names among the object's pixels; empty if (almost) nothing was painted.

    `painted` and `known` are [H, W, 3] in 0..1: the fill, and an estimate of the background without the object. The
    object is where they differ; its colour is named by hue, so that shading does not count.
    """
    difference = np.abs(painted - known).max(-1)
    pixels = painted[inside & (difference > CHANGED)]
    if len(pixels) < MIN_CHANGED * inside.sum():
        return {}
    names = name_colours(pixels)
    found, counts = np.unique(names, return_counts=True)
    return {str(name): float(count) / len(names) for name, count in zip(found, counts, strict=True)}


def name_colours(pixels: Float) -> NDArray[np.str_]:
    """Name the colour of each pixel [n, 3]: greys by lightness, others by hue, brown and pink also by lightness."""
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
    # Pink is a light, unsaturated red.
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


# Names of the same paint in shadow or in full light; they count as the asked colour.
SHADES = {
    "black": ("grey",),
    "grey": ("black", "white"),
    "white": ("grey",),
    "brown": ("orange", "red"),
    "orange": ("brown",),
}


def matches_colour(asked: str, shares: dict[str, float]) -> bool:
    """Whether the asked colour, with its shades, is the most frequent one."""
    if shares.get(asked, 0.0) < MIN_OWN:
        return False
    shades = {asked, *SHADES.get(asked, ())}
    own = sum(share for name, share in shares.items() if name in shades)
    others = max((share for name, share in shares.items() if name not in shades), default=0.0)
    return own > others


def score_colour_rule(photos: PhotoCrops, seed: int, count: int = 200) -> tuple[float, float]:
    """Accuracy of the rule on renders, which bounds the score of fills, and the rate of wrong colours it accepts."""
    rng = np.random.default_rng((seed, 7))
    names = list(COLOURS)
    colours = rng.integers(len(names), size=count)
    others = (colours + rng.integers(1, len(names), size=count)) % len(names)
    specs = [
        SceneSpec(int(rng.integers(len(SHAPES))), int(colour), int(rng.integers(len(MATERIALS))), -1, 0.8, "")
        for colour in colours
    ]
    images = photos.crops(rng, count)
    pictures, field = compose(rng, specs, images)
    correct = accepted = 0
    for index in range(count):
        inside = (field[index] < 0).cpu().numpy()
        rows, columns = np.nonzero(inside)
        x, y = float(columns.min() + columns.max()) / 2, float(rows.min() + rows.max()) / 2
        halves = (float(np.ptp(columns) + 1) / 2, float(np.ptp(rows) + 1) / 2)
        _, core = ellipse_or_box(x, y, halves, box=True)
        shares = object_colours(_array(pictures[index]), _array(images[index]), core & inside)
        correct += matches_colour(names[colours[index]], shares)
        accepted += matches_colour(names[others[index]], shares)
    return correct / count, accepted / count


def _array(image: Tensor) -> Float:
    found: Float = image.permute(1, 2, 0).cpu().numpy().astype(np.float64)
    return found
