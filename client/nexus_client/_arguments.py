"""Checks a call's plain arguments and makes them into tensors. Raises `InvalidInput` for a mistake.

Knows nothing of single operations. Every tensor has a leading batch axis of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ._tensors import INT32_MAX, text
from .exceptions import InvalidInput

Array = npt.NDArray[Any]

# Clicks in pixels: (x, y) pairs, or an array [N, 2].
Points = Sequence[Sequence[float]] | Array

# One per point: 1 inside the object, 0 outside it.
Labels = Sequence[int] | Array

# x0, y0, x1, y1 in pixels.
Box = Sequence[float] | Array


def object_prompt(points: Points | None, labels: Labels | None, box: Box | None) -> dict[str, Array]:
    """Return FP32 points [1, N, 2], INT32 labels [1, N] and FP32 box [1, 4]; N is 0 and the box [1, 0] if absent."""
    clicks = np.zeros((0, 2), np.float32) if points is None else _floats("points", points)
    if clicks.ndim == 1 and clicks.size == 0:
        clicks = clicks.reshape(0, 2)
    if clicks.ndim != 2 or clicks.shape[1] != 2:
        raise InvalidInput(f"points must be (x, y) pairs such as [(320, 240)], not of shape {clicks.shape}")
    kinds = np.ones(len(clicks), np.int32) if labels is None else _zeros_and_ones(labels)
    if kinds.shape != (len(clicks),):
        raise InvalidInput(
            f"labels must be one 1 or 0 for each of the {len(clicks)} points, not of shape {kinds.shape}"
        )
    corners = np.zeros(0, np.float32) if box is None else _floats("box", box)
    if box is not None and corners.shape != (4,):
        raise InvalidInput(f"box must be four numbers x0, y0, x1, y1, not of shape {corners.shape}")
    return {"points": clicks[np.newaxis], "labels": kinds[np.newaxis], "box": corners[np.newaxis]}


def string(name: str, value: str, hint: str = "") -> Array:
    """Return a string as a BYTES tensor [1, 1]; `hint` follows "must be a string" in the error."""
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string{hint}, not {type(value).__name__}")
    return text(value)


def number(name: str, value: float) -> Array:
    """Return a finite number as an FP32 tensor [1, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise InvalidInput(f"{name} must be a finite number, not {value!r}")
    return np.array([[value]], np.float32)


def integer(name: str, value: int, low: int, high: int, dtype: npt.DTypeLike = np.int32) -> Array:
    """Return a whole number from `low` to `high` as a tensor [1, 1]."""
    return _integer(f"{name} must be a whole number from {low} to {high}", value, low, high, dtype)


def pixels(name: str, value: int) -> Array:
    """Return a number of pixels as an INT32 tensor [1, 1]."""
    return _integer(f"{name} must be a whole number of pixels from 0 up", value, 0, INT32_MAX, np.int32)


def _integer(rule: str, value: int, low: int, high: int, dtype: npt.DTypeLike) -> Array:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise InvalidInput(f"{rule}, not {value!r}")
    return np.array([[value]], dtype)


def _floats(name: str, values: Points | Box) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(values)
        if array.size and array.dtype.kind not in "iuf":
            raise ValueError
        return array.astype(np.float32)
    except ValueError:
        raise InvalidInput(f"{name} must be numbers, in pixels") from None


def _zeros_and_ones(labels: Labels) -> npt.NDArray[np.int32]:
    try:
        array = np.asarray(labels)
        if array.size and (array.dtype.kind not in "iub" or not np.isin(array, (0, 1)).all()):
            raise ValueError
    except ValueError:
        raise InvalidInput("labels must be 1 (inside the object) or 0 (outside it)") from None
    return array.astype(np.int32)
