"""Malformed requests to the pipelines, each named after its fault."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.functional.support.malformed_files import encode, encoded, files

Tensors = dict[str, npt.NDArray[Any]]

UNARY = ("segment", "cleanup", "smart_remove", "remove_background")
FILL = "generative_fill"
PIPELINES = (*UNARY, FILL)


@dataclass(frozen=True)
class Case:
    """One malformed request."""

    name: str
    model: str
    tensors: Tensors


def text(data: bytes) -> npt.NDArray[np.object_]:
    """A BYTES tensor [1, 1]."""
    return np.array([[data]], np.object_)


def floats(*values: Any) -> npt.NDArray[np.float32]:
    """FP32 [1, ...]."""
    return np.array([values], np.float32)


def ints(*values: int) -> npt.NDArray[np.int32]:
    """INT32 [1, N]."""
    return np.array([values], np.int32)


@functools.cache
def photo() -> bytes:
    """96 x 64 pixels."""
    return encoded("PNG")


@functools.cache
def mask() -> bytes:
    """Of the photo's size, its middle selected."""
    pixels = np.zeros((64, 96), np.uint8)
    pixels[24:40, 40:60] = 255
    return encode(Image.fromarray(pixels))


def grey(level: int, width: int = 96, height: int = 64) -> bytes:
    """A PNG of one level."""
    return encode(Image.new("L", (width, height), level))


def good(model: str) -> Tensors:
    """Inputs that `model` accepts, new arrays each time."""
    inputs: Tensors = {"image": text(photo())}
    if model == "cleanup":
        inputs["mask"] = text(mask())
    elif model == "segment":
        inputs["points"] = floats((60, 48))
    elif model == "smart_remove":
        inputs["box"] = floats(53, 42, 67, 54)
    elif model == FILL:
        inputs |= {"mask": text(mask()), "prompt": text(b"a cat"), "steps": ints(1), "strength": floats(1)}
    return inputs


def file_cases() -> Iterator[Case]:
    """Every malformed file as cleanup's image, and as one of the five other files that pipelines take."""
    others = itertools.cycle(
        [
            ("segment", "image"),
            ("remove_background", "image"),
            ("smart_remove", "image"),
            ("cleanup", "mask"),
            ("smart_remove", "rough_mask"),
        ]
    )
    for name, data in files().items():
        yield Case(name, "cleanup", good("cleanup") | {"image": text(data)})
        model, tensor = next(others)
        if tensor == "rough_mask" and not data:  # no rough mask at all, which is allowed
            model, tensor = next(others)
        yield Case(f"{name} as {tensor}", model, good(model) | {tensor: text(data)})


def prompt_cases() -> Iterator[Case]:
    """Meaningless points, labels and boxes, for both pipelines that take them."""
    nan, inf = float("nan"), float("inf")
    prompts: dict[str, Tensors] = {
        f"point at {x}, {y}": {"points": floats((x, y))}
        for x, y in [
            (nan, 30),
            (50, nan),
            (inf, 30),
            (50, -inf),
            (-1, 30),
            (50, -0.5),
            (97, 30),
            (50, 65),
            (3e38, 0),
        ]
    }
    prompts |= {
        f"box {corners}": {"box": floats(*corners)}
        for corners in [
            *[
                (10, 10, 50),
                (10,),
                (10, 10, 50, 50, 50),
                (50, 10, 10, 50),
                (10, 50, 50, 10),
                (10, 10, 10, 50),
            ],
            *[(10, 10, 50, 10), (-1, 10, 50, 50), (10, -1, 50, 50), (10, 10, 97, 50), (10, 10, 50, 65)],
            *[(nan, 10, 50, 50), (10, 10, 50, nan), (10, 10, inf, 50), (-inf, 10, 50, 50), (0, 0, 0, 0)],
        ]
    }
    prompts |= {
        f"labels {labels} for two points": {"points": floats((50, 30), (20, 20)), "labels": ints(*labels)}
        for labels in [(1,), (1, 1, 1), (1, 2), (1, -1), (2, 3), (0, 0), (1, 2**31 - 1), (1, -(2**31))]
    }
    prompts |= {
        "no points": {"points": np.zeros((1, 0, 2), np.float32)},
        "labels without points": {"points": np.zeros((1, 0, 2), np.float32), "labels": ints(1)},
        "65 points": {"points": floats(*[(50, 30)] * 65)},
        "a million points": {"points": np.ones((1, 1_000_000, 2), np.float32)},
        "a second point outside": {"points": floats((50, 30), (500, 30))},
        "a box and a point outside": {"box": floats(10, 10, 50, 50), "points": floats((500, 30))},
    }
    prompts |= {
        f"model {name!r}": {"points": floats((50, 30)), "model": text(name)}
        for name in (b"sam3", b"SAM", b"\xff", b"sam2\0")
    }
    for (name, prompt), model in itertools.product(prompts.items(), ("segment", "smart_remove")):
        yield Case(name, model, {"image": text(photo())} | prompt)


def mask_cases() -> Iterator[Case]:
    """Masks that select nothing, everything or another picture, and dilations out of range."""
    masks = {
        "empty": grey(0),
        "full": grey(255),
        "darker than half": grey(127),
        "transparent": encode(Image.new("LA", (96, 64), (255, 0))),
        "turned by a quarter": grey(255, 64, 96),
        "a pixel too wide": grey(255, 97, 64),
        "a pixel too low": grey(255, 96, 63),
        "of one pixel": grey(255, 1, 1),
        "of 49 megapixels": encode(Image.new("1", (7000, 7000), 1)),
    }
    for (name, data), (model, tensor) in itertools.product(
        masks.items(), (("cleanup", "mask"), ("smart_remove", "rough_mask"))
    ):
        yield Case(f"mask {name}", model, {"image": text(photo()), tensor: text(data)})
    for dilate in (-1, 256, 2**31 - 1, -(2**31)):
        yield Case(f"dilate {dilate}", "cleanup", good("cleanup") | {"dilate": ints(dilate)})
    yield Case("mask full once dilated", "cleanup", good("cleanup") | {"dilate": ints(255)})


def background_cases() -> Iterator[Case]:
    """Strings that are not colours."""
    strings = {
        "empty": b"",
        "blank": b" ",
        "NUL": b"\0",
        "white and a NUL": b"white\0",
        "100 kB of letters": b"x" * 100_000,
        "100 kB of NUL": bytes(100_000),
        "white, 100 kB of blanks and more": b"white" + b" " * 100_000 + b"x",
        "100 kB of digits": b"rgb(" + b"9" * 100_000 + b",0,0)",
        "20 digits": b"rgb(99999999999999999999,0,0)",
        "levels past 255": b"rgb(999,0,0)",
        "shares past 100": b"rgb(100%,900%,0%)",
        "hsl past 100": b"hsl(0,900%,50%)",
        "seven hex digits": b"#1234567",
        "two hex digits": b"#12",
        "no hex digits": b"#ggg",
        "a translucent colour": b"#ffffff80",
        "an unknown name": b"whitish",
        "emoji": "\N{ROBOT FACE}".encode() * 9,
        "invalid UTF-8": b"\xff\xfe\xc3\x28",
        "a file name": b"/etc/passwd",
        "a format": b"%s%n{0.__class__}",
        "a picture": photo(),
    }
    for name, data in strings.items():
        yield Case(
            f"background {name}", "remove_background", {"image": text(photo()), "background": text(data)}
        )


def tensor_cases() -> Iterator[Case]:
    """Tensors of a wrong type, shape or number; Triton itself refuses most of these."""
    for model in UNARY:
        inputs = good(model)
        yield Case("image as pixels", model, inputs | {"image": np.zeros((1, 64, 96, 3), np.uint8)})
        yield Case("image as a number", model, inputs | {"image": ints(1)})
        yield Case("image without a batch axis", model, inputs | {"image": text(photo())[0]})
        yield Case(
            "two images side by side", model, inputs | {"image": np.array([[photo()] * 2], np.object_)}
        )
        yield Case("a batch of none", model, inputs | {"image": np.zeros((0, 1), np.object_)})
        yield Case("an unknown input", model, inputs | {"bogus": ints(1)})
        yield Case("two items in a request", model, {n: np.concatenate([a, a]) for n, a in inputs.items()})
        yield Case("nine items in a request", model, {n: np.concatenate([a] * 9) for n, a in inputs.items()})
        without = {name: array for name, array in inputs.items() if name != "image"}
        if without:  # a request of no inputs at all cannot be sent
            yield Case("no image", model, without)
    prompts: Tensors = {
        "points": np.array([[[50, 30]]], np.float64),
        "labels": floats(1),
        "box": np.array([[10, 10, 50, 50]], np.int32),
    }
    for name, array in prompts.items():
        yield Case(f"{name} of another type", "segment", good("segment") | {name: array})
        yield Case(f"{name} of four axes", "smart_remove", good("smart_remove") | {name: array[None, None]})
    yield Case("points of three values", "segment", good("segment") | {"points": floats((50, 30, 1))})
    yield Case("batches of one and two", "cleanup", good("cleanup") | {"mask": np.repeat(text(mask()), 2, 0)})
    yield Case("no mask", "cleanup", {"image": text(photo())})
    yield Case("dilate instead of mask", "cleanup", {"image": text(photo()), "dilate": ints(3)})
    yield Case("two dilations", "cleanup", good("cleanup") | {"dilate": ints(3, 3)})
    yield Case("min_area as text", "segment", good("segment") | {"min_area": text(b"9")})
    yield Case(
        "background as a number", "remove_background", good("remove_background") | {"background": ints(0)}
    )


def fill_cases() -> Iterator[Case]:
    """Prompts, numbers, data URLs and tensors that generative_fill cannot take; a sample of the malformed files."""
    nan, inf = float("nan"), float("inf")
    numbers: dict[str, list[npt.NDArray[Any]]] = {
        "steps": [ints(value) for value in (0, -1, 151, 2**31 - 1, -(2**31))],
        "preview_every": [ints(value) for value in (-1, -(2**31))],
        "guidance_scale": [floats(value) for value in (0.99, 30.1, -1, nan, inf, -inf)],
        "strength": [floats(value) for value in (0, 1.01, -0.5, nan, inf)],
        "seed": [np.array([[value]], np.int64) for value in (-1, -(2**63))],
    }
    inputs: dict[str, Tensors] = {
        f"{name} {array.item():g}": {name: array} for name, arrays in numbers.items() for array in arrays
    }
    inputs |= {
        "a strength that leaves no step": {"strength": floats(0.5)},
        "a prompt of 5000 bytes": {"prompt": text(b"cat " * 1250)},
        "a negative prompt of 5000 bytes": {"negative_prompt": text(b"cat " * 1250)},
        "a prompt that is no text": {"prompt": text(b"\xff\xfe\xc3\x28")},
        "a negative prompt that is no text": {"negative_prompt": text(b"\xff")},
        "a harmful prompt": {"prompt": text(b"n u d e people")},
        "an unknown scheduler": {"scheduler": text(b"heun")},
        "no scheduler": {"scheduler": text(b"")},
        "a scheduler that is no text": {"scheduler": text(b"\xff")},
        "a scheduler as a file name": {"scheduler": text(b"/etc/passwd")},
        "a scheduler of 100 kB": {"scheduler": text(b"x" * 100_000)},
        "a data URL without a comma": {"image": text(b"data:image/png;base64")},
        "a data URL in plain text": {"image": text(b"data:image/png,abc")},
        "a data URL of nothing": {"image": text(b"data:image/png;base64,")},
        "a data URL of no base64": {"mask": text(b"data:image/png;base64,%%%")},
        "a data URL of no picture": {"mask": text(b"data:image/png;base64,AAAA")},
        "a data URL with 100 kB of media type": {"image": text(b"data:" + b"x" * 100_000 + b";base64,AAAA")},
        "a mask that selects nothing": {"mask": text(grey(0))},
        "a mask of another size": {"mask": text(grey(255, 97, 64))},
    }
    inputs |= {
        f"{name} as image": {"image": text(data)}
        for name, data in itertools.islice(files().items(), 0, None, 4)
    }
    for name, changed in inputs.items():
        yield Case(name, FILL, good(FILL) | changed)


GROUPS = {
    "files": file_cases,
    "prompts": prompt_cases,
    "masks": mask_cases,
    "backgrounds": background_cases,
    "tensors": tensor_cases,
    "fills": fill_cases,
}
