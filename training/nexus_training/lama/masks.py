"""Random holes for LaMa: brush strokes, boxes, object outlines and thin lines.

Strokes and boxes follow Suvorov et al. 2021 (arXiv:2109.07161, section 3.3 and its large-mask settings), scaled to the
crop; outlines (of objects to remove) and thin lines (wires, scratches) are additions.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

# [size, size], 1 in the hole.
Mask = NDArray[np.uint8]

# Share of a crop: smaller holes are too easy, larger ones leave too little context.
MIN_SHARE, MAX_SHARE = 0.01, 0.5


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    # Small sizes are as frequent as large ones: the predictable part is learned from them first.
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def strokes(rng: np.random.Generator, size: int) -> Mask:
    """One to four bent brush strokes, like those of a user painting over an object."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, 5)):
        x, y = rng.integers(0, size, 2)
        width = int(_log_uniform(rng, 0.02, 0.3) * size)
        for turn in range(rng.integers(1, 6)):
            angle = rng.uniform(0, 4) + (np.pi if turn % 2 else 0)
            length = rng.uniform(0.05, 0.5) * size
            end_x = int(np.clip(x + length * np.sin(angle), 0, size))
            end_y = int(np.clip(y + length * np.cos(angle), 0, size))
            cv2.line(mask, (int(x), int(y)), (end_x, end_y), 1, max(width, 2))
            x, y = end_x, end_y
    return mask


def boxes(rng: np.random.Generator, size: int) -> Mask:
    """One to four rectangles."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(1, 5)):
        width, height = _log_uniform(rng, 0.04, 0.5) * size, _log_uniform(rng, 0.04, 0.5) * size
        x, y = rng.uniform(0, size - width), rng.uniform(0, size - height)
        mask[int(y) : int(y + height), int(x) : int(x + width)] = 1
    return mask


def outlines(rng: np.random.Generator, size: int) -> Mask:
    """One or two closed outlines, smooth to jagged, like the segmentation of an object."""
    mask = np.zeros((size, size), np.uint8)
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    for _ in range(rng.integers(1, 3)):
        radius = np.ones_like(turn)
        for frequency in range(1, 7):
            radius += rng.normal(0, 0.35 / frequency) * np.cos(frequency * turn + rng.uniform(0, 2 * np.pi))
        radius = np.maximum(radius, 0.15) * _log_uniform(rng, 0.03, 0.24) * size
        stretch = rng.uniform(0.6, 1.6)
        centre = rng.uniform(0.15, 0.85, 2) * size
        points = np.stack([radius * np.cos(turn) * stretch, radius * np.sin(turn) / stretch], axis=1) + centre
        cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    return mask


def thin_lines(rng: np.random.Generator, size: int) -> Mask:
    """Wires, scratches and lettering: up to a dozen lines of a few pixels."""
    mask = np.zeros((size, size), np.uint8)
    for _ in range(rng.integers(2, 13)):
        start, end = rng.integers(0, size, 2), rng.integers(0, size, 2)
        cv2.line(
            mask, (int(start[0]), int(start[1])), (int(end[0]), int(end[1])), 1, int(rng.integers(2, 10))
        )
    return mask


_KINDS: tuple[tuple[Callable[[np.random.Generator, int], Mask], float], ...] = (
    (strokes, 0.3),
    (boxes, 0.2),
    (outlines, 0.3),
    (thin_lines, 0.2),
)


def random_mask(rng: np.random.Generator, size: int) -> Mask:
    """One hole of a random kind: between `MIN_SHARE` and `MAX_SHARE` of the crop."""
    while True:
        kind = rng.choice(len(_KINDS), p=[share for _, share in _KINDS])
        mask = _KINDS[kind][0](rng, size)
        if MIN_SHARE <= mask.mean() <= MAX_SHARE:
            return mask
