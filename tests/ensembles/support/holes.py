"""Holes in photos, for the tests of where a fill is painted."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

SIDES = (256, 512, 1024)


def hole_in(height: int, width: int, *boxes: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    """True inside each (top, bottom, left, right)."""
    mask = np.zeros((height, width), np.bool_)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def random_case(seed: int) -> tuple[npt.NDArray[np.bool_], int]:
    """A hole of any size and place in a photo of any size, and a model's side."""
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in 2 ** random.uniform(0, 11.5, 2))
    mask = np.zeros((height, width), np.bool_)
    top, left = random.integers(0, height), random.integers(0, width)
    mask[top : top + random.integers(1, height + 1), left : left + random.integers(1, width + 1)] = True
    mask[(random.integers(0, height), random.integers(0, width))] = False
    mask[top, left] = True
    return mask, SIDES[seed % 3]
