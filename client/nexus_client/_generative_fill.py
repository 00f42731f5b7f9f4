"""Generative fill as a request: which tensors go out, and what comes back. Knows nothing of transports or retries.

What the caller leaves out is not sent: the server alone holds the defaults. (Unlike the other pipelines this one
is not batched as a whole, so the set of inputs may differ from call to call.)
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ._images import ImageInput, MaskInput, decode_image, encode_image, encode_mask
from ._requests import Request
from ._results import FillProgress, GenerativeFill
from ._tensors import INT32_MAX, Tensors, blob, int32, only, only_bytes, text
from .exceptions import InvalidInput

INT64_MAX = 2**63 - 1


def fill(image: ImageInput, mask: MaskInput, prompt: str, **settings: Any) -> Request[GenerativeFill]:
    """Paint the mask from the prompt; one answer. `settings`: as in `Client.generative_fill`, None where absent."""
    return Request("generative_fill", _inputs(image, mask, prompt, settings), _read_fill, streams=True)


def fill_stream(
    image: ImageInput, mask: MaskInput, prompt: str, preview_every: int, **settings: Any
) -> Request[FillProgress | GenerativeFill]:
    """The same; an answer for each step, then the result."""
    inputs = _inputs(image, mask, prompt, settings)
    inputs["progress"] = np.array([[True]])
    inputs["preview_every"] = int32(_whole("preview_every", preview_every, 0, INT32_MAX))
    return Request("generative_fill", inputs, _read_answer, streams=True, is_result=_is_result)


def _inputs(
    image: ImageInput, mask: MaskInput, prompt: str, settings: dict[str, Any]
) -> dict[str, npt.NDArray[Any]]:
    inputs: dict[str, npt.NDArray[Any]] = {"prompt": text(_string("prompt", prompt))}
    for name, value in settings.items():
        if value is None:
            continue
        if name == "steps":
            inputs[name] = int32(_whole(name, value, 1, INT32_MAX))
        elif name == "seed":
            inputs[name] = np.array([[_whole(name, value, 0, INT64_MAX)]], np.int64)
        elif name in ("guidance_scale", "strength"):
            inputs[name] = np.array([[_number(name, value)]], np.float32)
        else:
            inputs[name] = text(_string(name, value))
    return {"image": blob(encode_image(image)), "mask": blob(encode_mask(mask)), **inputs}


def _string(name: str, value: str) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string, not {type(value).__name__}")
    return value


def _whole(name: str, value: int, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not least <= value <= most:
        raise InvalidInput(f"{name} must be a whole number from {least} to {most}, not {value!r}")
    return int(value)


def _number(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not math.isfinite(value):
        raise InvalidInput(f"{name} must be a finite number, not {value!r}")
    return float(value)


def _is_result(outputs: Tensors) -> bool:
    """Only the last answer has an image."""
    return "image" in outputs


def _read_answer(outputs: Tensors) -> FillProgress | GenerativeFill:
    return _read_fill(outputs) if _is_result(outputs) else _read_progress(outputs)


def _read_progress(outputs: Tensors) -> FillProgress:
    preview = decode_image(only_bytes(outputs, "preview")) if "preview" in outputs else None
    return FillProgress(int(only(outputs, "step")), int(only(outputs, "total")), preview)


def _read_fill(outputs: Tensors) -> GenerativeFill:
    return GenerativeFill(
        image=decode_image(only_bytes(outputs, "image")),
        seed=int(only(outputs, "seed")),
        model=only_bytes(outputs, "model").decode(),
        timings=json.loads(only_bytes(outputs, "timings")),
        notices=tuple(json.loads(only_bytes(outputs, "notices"))),
    )
