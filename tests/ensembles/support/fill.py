"""Fakes for generative_fill: networks, a tokenizer, a filter, masks, and a way to collect the events."""

# ruff: noqa: ARG002 - a fake has the parameters of the original, used or not
from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from nexus_ensembles.diffusion.tiers import Breaker, Tier
from nexus_ensembles.errors import OutOfMemory
from nexus_ensembles.generative_fill import GenerativeFill, Progress, Result
from nexus_ensembles.prompts.clip_tokenizer import ClipTokenizer, Encoding
from nexus_ensembles.prompts.content_filter import ContentFilter

from tests.ensembles.support.fakes import Array, Call, encode, noise

SDXL, SD15 = "sdxl", "sd15"
FILTER = ContentFilter.load("on")
# The sides of the models whose crops are tested.
SIDES = (256, 512, 1024)


@dataclass
class FakeFillNetworks:
    """Both tiers in the shapes and dtypes of their configs.

    A latent is the mean of its 8 x 8 pixels from -1 to 1, its fourth channel zero, and decodes to them; the UNet
    predicts a mix of its inputs, so that every one of them matters. Networks named in `full` are out of memory.
    """

    full: set[str] = field(default_factory=set)
    calls: list[Call] = field(default_factory=list)
    on_call: Callable[[str], None] = lambda _: None

    async def run(self, network: str, **inputs: Array) -> dict[str, Array]:
        outputs = await self.run_rows(network, **{name: array[None] for name, array in inputs.items()})
        return {name: array[0] for name, array in outputs.items()}

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        assert len({len(array) for array in inputs.values()}) == 1
        self.on_call(network)
        self.calls.append(Call(network, {name: array.copy() for name, array in inputs.items()}))
        await asyncio.sleep(0)
        if network in self.full:
            raise OutOfMemory(f"out of memory: {network} has no room for the request.")
        tier, part = network.split("_", 1)
        outputs: dict[str, Array] = getattr(self, f"_{part}")(tier, **inputs)
        return outputs

    def of(self, network: str) -> list[dict[str, Array]]:
        """The inputs, with their batch axis, of every call of `network`."""
        return [call.inputs for call in self.calls if call.network == network]

    @property
    def counts(self) -> dict[str, int]:
        """The number of calls by network."""
        return dict(Counter(call.network for call in self.calls))

    def _text_encoder(
        self, tier: str, input_ids: Array, input_ids_2: Array | None = None
    ) -> dict[str, Array]:
        assert (input_ids_2 is not None) == (tier == SDXL)
        context = np.repeat(input_ids[..., None] / np.float32(4096), 8, axis=2).astype(np.float32)
        if input_ids_2 is None:
            return {"context": context}
        return {"context": context, "pooled": input_ids_2[:, :4].astype(np.float32)}

    def _vae_encoder(self, tier: str, image: Array) -> dict[str, Array]:
        assert image.dtype == np.uint8
        rows, height, width, _ = image.shape
        means = image.reshape(rows, height // 8, 8, width // 8, 8, 3).mean((2, 4)) / 127.5 - 1
        latent = np.zeros((rows, 4, height // 8, width // 8), np.float32)
        latent[:, :3] = np.moveaxis(means, -1, 1)
        return {"latent": latent}

    def _vae_decoder(self, tier: str, latent: Array) -> dict[str, Array]:
        colours = np.clip(np.rint((np.moveaxis(latent[:, :3], 1, -1) + 1) * 127.5), 0, 255)
        return {"image": colours.astype(np.uint8).repeat(8, axis=1).repeat(8, axis=2)}

    def _unet(
        self, tier: str, sample: Array, timestep: Array, context: Array, **more: Array
    ) -> dict[str, Array]:
        assert set(more) == ({"pooled", "time_ids"} if tier == SDXL else set())
        assert {array.dtype.name for array in (sample, timestep, context, *more.values())} == {"float32"}
        assert sample.shape[1] == 9
        words = context.mean((1, 2)) + sum(array.mean(1) for array in more.values()) / 1000
        mixed = (
            0.5 * sample[:, :4]
            + 0.1 * sample[:, 4:5]
            - 0.1 * sample[:, 5:]
            + timestep[:, :, None, None] / 5000
        )
        return {"noise": (mixed + words[:, None, None, None]).astype(np.float32)}


class FakeTokenizer(ClipTokenizer):
    """Reads a prompt's first 75 bytes, one token each."""

    def __init__(self) -> None:
        self.start, self.end = 256, 257

    def encode(self, text: str, pad: int) -> Encoding:
        codes = [self.start, *text.encode()[:75], self.end]
        return Encoding(np.array(codes + [pad] * (77 - len(codes)), np.int32), text[75:])


def tier(name: str) -> Tier:
    """SDXL of side 256, SD 1.5 of side 128; previews show a latent's first three channels, as FakeFillNetworks."""
    latent_rgb = np.zeros((5, 3), np.float32)
    latent_rgb[:3], latent_rgb[4] = 127.5 * np.eye(3), 127.5
    return Tier(name, {SDXL: 256, SD15: 128}[name], latent_rgb, random_weights=False)


def pipeline(*names: str, breaker: Breaker | None = None) -> GenerativeFill:
    """The pipeline with the default filter and the named tiers, by default both."""
    tiers = [tier(name) for name in names or (SDXL, SD15)]
    return GenerativeFill(FakeTokenizer(), FILTER, tiers, breaker or Breaker())


PHOTO = noise(192, 320)
MASK = np.zeros((192, 320), np.bool_)
MASK[48:96, 100:200] = True
REQUEST = {"image": encode(PHOTO), "mask": encode(MASK), "prompt": "a bench"}


def stream(
    shared: GenerativeFill, networks: FakeFillNetworks, **options: Any
) -> AsyncGenerator[Progress | Result, None]:
    """A request for a fill of MASK in PHOTO, unless `options` say otherwise."""
    request: dict[str, Any] = {**REQUEST, **options}
    return shared.run(networks, **request)


async def collect(
    shared: GenerativeFill, networks: FakeFillNetworks, **options: Any
) -> tuple[list[Progress], Result]:
    """The events of `stream`."""
    *progress, result = [event async for event in stream(shared, networks, **options)]
    assert isinstance(result, Result)
    steps = [event for event in progress if isinstance(event, Progress)]
    assert len(steps) == len(progress)
    return steps, result


def fill(
    networks: FakeFillNetworks | None = None, *names: str, **options: Any
) -> tuple[list[Progress], Result]:
    """The events of a request, of 4 steps at strength 1 unless `options` say otherwise."""
    request = {"steps": 4, "strength": 1.0, **options}
    return asyncio.run(collect(pipeline(*names), networks or FakeFillNetworks(), **request))


def mask_of(height: int, width: int, *boxes: tuple[int, int, int, int]) -> npt.NDArray[np.bool_]:
    """True inside each (top, bottom, left, right)."""
    mask = np.zeros((height, width), np.bool_)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = True
    return mask


def random_case(seed: int) -> tuple[npt.NDArray[np.bool_], int]:
    """A mask of any size and place in a photo of any size, and a model's side."""
    random = np.random.default_rng(seed)
    height, width = (int(side) for side in 2 ** random.uniform(0, 11.5, 2))
    mask = np.zeros((height, width), np.bool_)
    top, left = random.integers(0, height), random.integers(0, width)
    mask[top : top + random.integers(1, height + 1), left : left + random.integers(1, width + 1)] = True
    mask[(random.integers(0, height), random.integers(0, width))] = False
    mask[top, left] = True
    return mask, SIDES[seed % 3]
