"""Masks drawn on photos: brush strokes and outlines of objects, seeded, as holes to fill, and ellipses."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Bool = NDArray[np.bool_]
Draw = Callable[[ImageDraw.ImageDraw], None]

# Share of the picture: smaller holes measure nothing, larger ones leave little to fill them from.
MIN_SHARE, MAX_SHARE = 0.03, 0.3


def free_form(height: int, width: int, rng: np.random.Generator) -> Bool:
    """BOOL [height, width]: one to three bent brush strokes, as in LaMa's evaluation (arXiv:2109.07161, 3.3)."""

    def draw(canvas: ImageDraw.ImageDraw) -> None:
        side = min(height, width)
        for _ in range(rng.integers(1, 4)):
            x, y = rng.uniform(0.1, 0.9, 2) * (width, height)
            brush = int(rng.uniform(0.05, 0.15) * side)
            for turn in range(rng.integers(2, 5)):
                angle = rng.uniform(0, 4) + (np.pi if turn % 2 else 0)
                length = rng.uniform(0.1, 0.4) * side
                end = (x + length * np.sin(angle), y + length * np.cos(angle))
                canvas.line([(x, y), end], fill=1, width=brush)
                canvas.circle(end, brush / 2, fill=1)
                x, y = end

    return _drawn(height, width, draw)


def outline(height: int, width: int, rng: np.random.Generator) -> Bool:
    """BOOL [height, width]: a closed outline, smooth to jagged, as of a segmented object."""

    def draw(canvas: ImageDraw.ImageDraw) -> None:
        turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        radius = np.ones_like(turn)
        for frequency in range(1, 7):
            radius += rng.normal(0, 0.35 / frequency) * np.cos(frequency * turn + rng.uniform(0, 2 * np.pi))
        radius = np.maximum(radius, 0.2) * rng.uniform(0.12, 0.25) * min(height, width)
        x, y = rng.uniform(0.3, 0.7, 2) * (width, height)
        canvas.polygon(list(zip(x + radius * np.cos(turn), y + radius * np.sin(turn))), fill=1)

    return _drawn(height, width, draw)


def ellipse(height: int, width: int, box: Sequence[float]) -> Bool:
    """BOOL [height, width]: the ellipse that touches the sides of `box` (x0, y0, x1, y1)."""
    image = Image.new("1", (width, height))
    ImageDraw.Draw(image).ellipse(list(box), fill=1)
    return np.array(image)


def _drawn(height: int, width: int, draw: Draw) -> Bool:
    """The first drawing whose share of the picture is within bounds."""
    while True:
        image = Image.new("L", (width, height))
        draw(ImageDraw.Draw(image))
        mask = np.asarray(image) > 0
        if MIN_SHARE <= mask.mean() <= MAX_SHARE:
            return mask
