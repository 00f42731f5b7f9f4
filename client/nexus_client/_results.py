"""What the operations return."""

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
    `score`: the network's own estimate of the mask's intersection over union, about 0 to 1.
    """

    mask: npt.NDArray[np.bool_]
    score: float


@dataclass(frozen=True, eq=False)
class SmartRemoval:
    """An image without the object, and what was taken for the object.

    Usage: `removal.image.save("clean.png")`

    `image`: the size of the input, RGBA where that is not opaque, else RGB. `mask`: bool [H, W], True where the
    object was. `score`: as in `Segmentation`.
    """

    image: Image.Image
    mask: npt.NDArray[np.bool_]
    score: float


@dataclass(frozen=True)
class Status:
    """What a server says of itself at this moment.

    Usage: `if client.status().ready: ...`

    `live`: it answers. `ready`: it takes requests. `version`: of Triton, None when nothing answers.
    `pipelines`: operation -> ready, for every operation this client knows.
    """

    live: bool
    ready: bool
    version: str | None
    pipelines: Mapping[str, bool]
