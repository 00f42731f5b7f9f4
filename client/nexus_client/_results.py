"""The results of the operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image


@dataclass(frozen=True, eq=False)
class Segmentation:
    """An object found in an image.

    Usage: `cutout[~segmentation.mask] = 0`

    `mask`: bool [H, W], the size of the (upright) image, True inside the object.
    `score`: the network's estimate of the mask's intersection over union, about 0 to 1.
    """

    mask: npt.NDArray[np.bool_]
    score: float


@dataclass(frozen=True, eq=False)
class SmartRemoval:
    """An image without the object, and the object's mask.

    Usage: `removal.image.save("clean.png")`

    `image`: the size of the input, RGBA if that is not opaque, else RGB. `mask`: bool [H, W], True where the object
    was. `score`: as in `Segmentation`.
    """

    image: Image.Image
    mask: npt.NDArray[np.bool_]
    score: float


@dataclass(frozen=True, eq=False)
class FillProgress:
    """The progress of a generative fill.

    Usage: `print(f"{progress.step}/{progress.total}")`

    `step`: the steps done, from 1 to `total`, which is the requested steps times `strength`. A server that runs out of
    memory on the way starts again with its second tier, at step 1. `preview`: a small RGB picture of the unfinished
    photo, its masked region rough, at the steps that were asked for, else None.
    """

    step: int
    total: int
    preview: Image.Image | None


@dataclass(frozen=True, eq=False)
class GenerativeFill:
    """An image with its masked region repainted.

    Usage: `fill.image.save("garden.png")`

    `image`: the size of the input, RGBA if that is not opaque, else RGB. `seed`: repeats the same picture. `model`: the
    tier that painted it, "sdxl" or, if that had no memory left, "sd15". `timings`: seconds on the server by phase:
    text, vae_encode, denoise, vae_decode, total. `notices`: sentences about surprises, such as a prompt cut at the
    tokeniser's limit.
    """

    image: Image.Image
    seed: int
    model: str
    timings: Mapping[str, float]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class Status:
    """The state of a server at this moment.

    Usage: `if client.status().ready: ...`

    `live`: it answers. `ready`: it takes requests. `version`: of Triton, None if nothing answers. `pipelines`: whether
    each operation of this client is ready.
    """

    live: bool
    ready: bool
    version: str | None
    pipelines: Mapping[str, bool]
