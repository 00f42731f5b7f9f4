"""The operations as requests: which tensors go out, and how the answer is read. Knows nothing of transports or retries.

Every request of an operation carries the same set of inputs, absent ones as empty tensors, because the server batches
only requests that agree in their inputs. The server does not batch whole requests for `generative_fill`: these omit
absent settings, whose defaults only the server knows.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypedDict, TypeVar, get_type_hints

import numpy as np
from PIL import Image

from ._arguments import Array, Box, Labels, Points, integer, number, object_prompt, pixels, string
from ._images import (
    EncodedImage,
    ImageInput,
    MaskInput,
    Place,
    decode_image,
    decode_mask,
    encode_image,
    encode_mask,
)
from ._results import FillProgress, GenerativeFill, Segmentation, SmartRemoval
from ._tensors import INT32_MAX, Tensors, blob, int32, only, only_bytes, text

T = TypeVar("T")
Method = TypeVar("Method", bound=Callable[..., Any])

# The operations, by the names of their models on the server.
PIPELINES = ("segment", "cleanup", "smart_remove", "remove_background", "generative_fill")

# On the wire these ask for the server's own default.
DEFAULT_AREA = -1
DEFAULT_MODEL = ""

INT64_MAX = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Request(Generic[T]):
    """Inputs for a model, and how to read each answer.

    `streams`: the model may answer several times. `is_result`: True for the last answer, False for progress. `handle`:
    the image as `open` returned it, which may be sent by reference.
    """

    model: str
    inputs: Tensors
    read: Callable[[Tensors], T]
    streams: bool = False
    is_result: Callable[[Tensors], bool] = lambda _: True
    handle: EncodedImage | None = None

    def inputs_for(self, place: Place) -> Tensors:
        """The inputs to send first to `place`: with a reference for the image, if that is where it has been sent."""
        if self.handle is None or not self.handle.was_sent_to(place):
            return self.inputs
        return {**self.inputs, "image": blob(self.handle.reference)}

    def arrived(self, place: Place) -> None:
        """Take note that `place` has answered."""
        if self.handle is not None:
            self.handle.sent_to(place)


class FillSettings(TypedDict, total=False):
    """How a generative fill paints; see `Client.generative_fill`. Absent or None: the server's default."""

    negative_prompt: str | None
    steps: int | None
    guidance_scale: float | None
    strength: float | None
    seed: int | None
    scheduler: str | None


_FILL_TENSORS: dict[str, Callable[[str, Any], Array]] = {
    "negative_prompt": string,
    "steps": lambda name, value: integer(name, value, 1, INT32_MAX),
    "guidance_scale": number,
    "strength": number,
    "seed": lambda name, value: integer(name, value, 0, INT64_MAX, np.int64),
    "scheduler": string,
}


def takes_fill_settings(method: Method) -> Method:
    """Spell out `**settings` in the signature of `method`, for help() and completion."""
    signature = inspect.signature(method)
    *others, _ = signature.parameters.values()
    settings = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in get_type_hints(FillSettings).items()
    ]
    method.__signature__ = signature.replace(parameters=[*others, *settings])  # type: ignore[attr-defined]
    return method


def segment(
    image: ImageInput,
    points: Points | None,
    labels: Labels | None,
    box: Box | None,
    min_area: int | None,
    model: str | None,
) -> Request[Segmentation]:
    """Find the object under the clicks or in the box."""
    inputs = {
        "image": blob(encode_image(image)),
        **object_prompt(points, labels, box),
        "min_area": int32(DEFAULT_AREA) if min_area is None else pixels("min_area", min_area),
        "model": _model(model),
    }
    return Request("segment", inputs, _read_segmentation, handle=_handle(image))


def cleanup(image: ImageInput, mask: MaskInput, dilate: int) -> Request[Image.Image]:
    """Fill the mask from its surroundings."""
    inputs = {
        "image": blob(encode_image(image)),
        "mask": blob(encode_mask(mask)),
        "dilate": pixels("dilate", dilate),
    }
    return Request("cleanup", inputs, _read_image, handle=_handle(image))


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
    inputs = {
        "image": blob(encode_image(image)),
        **object_prompt(points, labels, box),
        "rough_mask": blob(b"" if rough_mask is None else encode_mask(rough_mask, "rough_mask")),
        "dilate": pixels("dilate", dilate),
        "model": _model(model),
    }
    return Request("smart_remove", inputs, _read_removal, handle=_handle(image))


def remove_background(image: ImageInput, background: str, model: str | None) -> Request[Image.Image]:
    """Keep the subject, on a colour or on nothing."""
    inputs = {
        "image": blob(encode_image(image)),
        "background": string("background", background, " such as 'white'"),
        "model": _model(model),
    }
    return Request("remove_background", inputs, _read_image, handle=_handle(image))


def fill(image: ImageInput, mask: MaskInput, prompt: str, settings: FillSettings) -> Request[GenerativeFill]:
    """Paint the mask from the prompt; one answer."""
    inputs = _fill_inputs(image, mask, prompt, settings)
    return Request("generative_fill", inputs, _read_fill, streams=True, handle=_handle(image))


def fill_stream(
    image: ImageInput, mask: MaskInput, prompt: str, preview_every: int, settings: FillSettings
) -> Request[FillProgress | GenerativeFill]:
    """The same; an answer for each step, then the result."""
    inputs = _fill_inputs(image, mask, prompt, settings)
    inputs["progress"] = np.array([[True]])
    inputs["preview_every"] = integer("preview_every", preview_every, 0, INT32_MAX)
    return Request(
        "generative_fill", inputs, _read_event, streams=True, is_result=_is_result, handle=_handle(image)
    )


def _handle(image: ImageInput) -> EncodedImage | None:
    return image if isinstance(image, EncodedImage) else None


def _model(model: str | None) -> Array:
    return text(DEFAULT_MODEL) if model is None else string("model", model, ", the name of a model")


def _fill_inputs(image: ImageInput, mask: MaskInput, prompt: str, settings: FillSettings) -> dict[str, Array]:
    inputs = {"prompt": string("prompt", prompt)}
    for name, value in settings.items():
        if name not in _FILL_TENSORS:
            raise TypeError(f"generative fill got an unexpected keyword argument {name!r}")
        if value is not None:
            inputs[name] = _FILL_TENSORS[name](name, value)
    return {"image": blob(encode_image(image)), "mask": blob(encode_mask(mask)), **inputs}


def _read_segmentation(outputs: Tensors) -> Segmentation:
    return Segmentation(decode_mask(only_bytes(outputs, "mask")), float(only(outputs, "score")))


def _read_removal(outputs: Tensors) -> SmartRemoval:
    found = _read_segmentation(outputs)
    return SmartRemoval(_read_image(outputs), found.mask, found.score)


def _read_image(outputs: Tensors) -> Image.Image:
    return decode_image(only_bytes(outputs, "image"))


def _is_result(outputs: Tensors) -> bool:
    """Only the last answer has an image."""
    return "image" in outputs


def _read_event(outputs: Tensors) -> FillProgress | GenerativeFill:
    if _is_result(outputs):
        return _read_fill(outputs)
    preview = decode_image(only_bytes(outputs, "preview")) if "preview" in outputs else None
    return FillProgress(int(only(outputs, "step")), int(only(outputs, "total")), preview)


def _read_fill(outputs: Tensors) -> GenerativeFill:
    return GenerativeFill(
        image=_read_image(outputs),
        seed=int(only(outputs, "seed")),
        model=only_bytes(outputs, "model").decode(),
        timings=json.loads(only_bytes(outputs, "timings")),
        notices=tuple(json.loads(only_bytes(outputs, "notices"))),
    )
