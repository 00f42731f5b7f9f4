"""Networks that answer at once and record their calls, and pictures to call them with."""

# ruff: noqa: ARG002 - a fake has the parameters of the original, used or not
from __future__ import annotations

import asyncio
import io
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from nexus_ensembles.errors import NotBuilt
from PIL import Image

Array = npt.NDArray[Any]
FILL = 77


class Call(NamedTuple):
    """A network's name and the inputs it got."""

    network: str
    inputs: dict[str, Array]


@dataclass
class FakeNetworks:
    """Networks in the shapes and dtypes of their configs.

    The SAM decoders' mask k is positive in a square of 20 + 20 k cells, its score is `scores[k]`; lama fills with
    FILL; u2net's alpha is 1 in the left half, isnet's in the upper. Networks in `not_built` raise NotBuilt.
    """

    scores: tuple[float, ...] = (0.9, 0.5, 0.8, 0.7)
    calls: list[Call] = field(default_factory=list)
    not_built: tuple[str, ...] = ()

    async def run(self, network: str, **inputs: Array) -> dict[str, Array]:
        if network in self.not_built:
            raise NotBuilt(f"{network} is not built.")
        # copies: a pipeline may go on to write where its input was
        self.calls.append(Call(network, {name: array.copy() for name, array in inputs.items()}))
        await asyncio.sleep(0)
        outputs: dict[str, Array] = getattr(self, f"_{network}")(**inputs)
        return outputs

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        rows = [await self.run(network, **dict(zip(inputs, row))) for row in zip(*inputs.values())]
        return {name: np.stack([row[name] for row in rows]) for name in rows[0]}

    def of(self, network: str) -> list[dict[str, Array]]:
        """The inputs of every call of `network`."""
        return [call.inputs for call in self.calls if call.network == network]

    def _sam_encoder(self, image: Array) -> dict[str, Array]:
        return {"embedding": np.full((256, 64, 64), image[0, 0, 0], np.float32)}

    def _sam_decoder(self, **inputs: Array) -> dict[str, Array]:
        masks = np.full((4, 256, 256), -5, np.float32)
        for token, mask in enumerate(masks):
            mask[: 20 + 20 * token, : 20 + 20 * token] = 5
        return {"masks": masks, "scores": np.array(self.scores, np.float32)}

    def _sam2_encoder(self, image: Array) -> dict[str, Array]:
        shapes = {"embedding": (256, 64, 64), "high_res_0": (32, 256, 256), "high_res_1": (64, 128, 128)}
        return {name: np.full(shape, image[0, 0, 0], np.float32) for name, shape in shapes.items()}

    def _sam2_decoder(self, **inputs: Array) -> dict[str, Array]:
        return self._sam_decoder(**inputs)

    def _lama(self, image: Array, mask: Array) -> dict[str, Array]:
        return {"filled": np.where(mask > 0, np.uint8(FILL), image)}

    def _u2net(self, image: Array) -> dict[str, Array]:
        alpha = np.zeros((320, 320), np.float32)
        alpha[:, :160] = 1
        return {"alpha": alpha}

    def _isnet(self, image: Array) -> dict[str, Array]:
        alpha = np.zeros((1024, 1024), np.float32)
        alpha[:512] = 1
        return {"alpha": alpha}


def run(pipeline: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
    """The outputs of a pipeline."""
    return asyncio.run(pipeline)


def encode(pixels: Array, kind: str = "PNG", **options: Any) -> bytes:
    """An array as a file."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


def decode(data: bytes) -> Array:
    """A file as an array, in the file's own mode."""
    return np.asarray(Image.open(io.BytesIO(data)))


def noise(height: int, width: int, channels: int = 3) -> npt.NDArray[np.uint8]:
    """UINT8 [height, width, channels], the same each time."""
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), np.uint8)
