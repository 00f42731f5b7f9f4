"""The operations that answer at once as requests: which tensors go out, and what comes back. Knows nothing of
transports or retries.

Every request of an operation carries the same set of inputs, absent ones as empty tensors, because the server
batches only requests that agree in their inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from ._images import ImageInput, MaskInput, decode_image, decode_mask, encode_image, encode_mask
from ._results import Segmentation, SmartRemoval
from ._tensors import INT32_MAX, Tensors, blob, int32, only, only_bytes, text
from .exceptions import InvalidInput

T = TypeVar("T")

Points = Sequence[Sequence[float]] | npt.NDArray[Any]
"""Clicks in pixels: (x, y) pairs, or an array [N, 2]."""

Labels = Sequence[int] | npt.NDArray[Any]
"""One per point: 1 inside the object, 0 outside it."""

Box = Sequence[float] | npt.NDArray[Any]
"""x0, y0, x1, y1 in pixels."""

PIPELINES = ("segment", "cleanup", "smart_remove", "remove_background", "generative_fill")
"""The operations, by the names of their models on the server."""

# What stands for the server's own choice: of an area, and of a model.
DEFAULT_AREA = -1
DEFAULT_MODEL = ""


@dataclass(frozen=True, eq=False)
class Request(Generic[T]):
    """What to send to which model, and how to read each answer.

    `streams`: the model may answer several times. `is_result`: tells the last of its answers from progress.
    """

    model: str
    inputs: Tensors
    read: Callable[[Tensors], T]
    streams: bool = False
    is_result: Callable[[Tensors], bool] = lambda _: True


def segment(
    image: ImageInput,
    points: Points | None,
    labels: Labels | None,
    box: Box | None,
    min_area: int | None,
    model: str | None,
) -> Request[Segmentation]:
    """Find the object under the clicks or in the box."""
    area = DEFAULT_AREA if min_area is None else _count("min_area", min_area)
    inputs = {
        "image": blob(encode_image(image)),
        **_prompt(points, labels, box),
        "min_area": int32(area),
        "model": _model(model),
    }
    return Request("segment", inputs, _read_segmentation)


def cleanup(image: ImageInput, mask: MaskInput, dilate: int) -> Request[Image.Image]:
    """Fill the mask from its surroundings."""
    inputs = {
        "image": blob(encode_image(image)),
        "mask": blob(encode_mask(mask)),
        "dilate": int32(_count("dilate", dilate)),
    }
    return Request("cleanup", inputs, _read_image)


def smart_remove(
    image: ImageInput,
    points: Points | None,
    labels: Labels | None,
    box: Box | None,
    rough_mask: MaskInput | None,
    dilate: int,
    model: str | None,
) -> Request[SmartRemoval]:
    """Find the object and fill its place."""
    rough = b"" if rough_mask is None else encode_mask(rough_mask, "rough_mask")
    inputs = {
        "image": blob(encode_image(image)),
        **_prompt(points, labels, box),
        "rough_mask": blob(rough),
        "dilate": int32(_count("dilate", dilate)),
        "model": _model(model),
    }
    return Request("smart_remove", inputs, _read_removal)


def remove_background(image: ImageInput, background: str, model: str | None) -> Request[Image.Image]:
    """Keep the subject, on a colour or on nothing."""
    if not isinstance(background, str):
        raise InvalidInput(f"background must be a string such as 'white', not {type(background).__name__}")
    inputs = {
        "image": blob(encode_image(image)),
        "background": text(background),
        "model": _model(model),
    }
    return Request("remove_background", inputs, _read_image)


def _model(model: str | None) -> npt.NDArray[Any]:
    if model is not None and not isinstance(model, str):
        raise InvalidInput(f"model must be a string, the name of a model, not {type(model).__name__}")
    return text(DEFAULT_MODEL if model is None else model)


def _prompt(points: Points | None, labels: Labels | None, box: Box | None) -> dict[str, npt.NDArray[Any]]:
    clicks = np.zeros((0, 2), np.float32) if points is None else _floats("points", points)
    if clicks.ndim == 1 and clicks.size == 0:
        clicks = clicks.reshape(0, 2)
    if clicks.ndim != 2 or clicks.shape[1] != 2:
        raise InvalidInput(f"points must be (x, y) pairs such as [(320, 240)], not of shape {clicks.shape}")
    kinds = np.ones(len(clicks), np.int32) if labels is None else _labels(labels)
    if kinds.shape != (len(clicks),):
        raise InvalidInput(
            f"labels must be one 1 or 0 for each of the {len(clicks)} points, not of shape {kinds.shape}"
        )
    corners = np.zeros(0, np.float32) if box is None else _floats("box", box)
    if box is not None and corners.shape != (4,):
        raise InvalidInput(f"box must be four numbers x0, y0, x1, y1, not of shape {corners.shape}")
    return {"points": clicks[np.newaxis], "labels": kinds[np.newaxis], "box": corners[np.newaxis]}


def _floats(name: str, values: Points | Box) -> npt.NDArray[np.float32]:
    try:
        array = np.asarray(values)
        if array.size and array.dtype.kind not in "iuf":
            raise ValueError
        return array.astype(np.float32)
    except ValueError:
        raise InvalidInput(f"{name} must be numbers, in pixels") from None


def _labels(values: Labels) -> npt.NDArray[np.int32]:
    try:
        array = np.asarray(values)
        if array.size and (array.dtype.kind not in "iub" or not np.isin(array, (0, 1)).all()):
            raise ValueError
    except ValueError:
        raise InvalidInput("labels must be 1 (inside the object) or 0 (outside it)") from None
    return array.astype(np.int32)


def _count(name: str, value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value <= INT32_MAX:
        raise InvalidInput(f"{name} must be a whole number of pixels from 0 up, not {value!r}")
    return int(value)


def _read_segmentation(outputs: Tensors) -> Segmentation:
    return Segmentation(decode_mask(only_bytes(outputs, "mask")), _score(outputs))


def _read_removal(outputs: Tensors) -> SmartRemoval:
    image = decode_image(only_bytes(outputs, "image"))
    return SmartRemoval(image, decode_mask(only_bytes(outputs, "mask")), _score(outputs))


def _read_image(outputs: Tensors) -> Image.Image:
    return decode_image(only_bytes(outputs, "image"))


def _score(outputs: Tensors) -> float:
    return float(only(outputs, "score"))
