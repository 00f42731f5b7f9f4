"""generative_fill: repaint the masked region of a photo from a prompt.

Latent diffusion inpainting as in diffusers' StableDiffusionXLInpaintPipeline and StableDiffusionInpaintPipeline
(arXiv:2112.10752, arXiv:2307.01952), with classifier-free guidance (arXiv:2207.12598). Each step is one call of the
UNet with one row a prompt, so that the rows of different requests, at different steps, share Triton's batches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nexus_ensembles.diffusion.crop import InpaintCrop, latent_mask, masked_image, match_colours
from nexus_ensembles.diffusion.parameters import FillParameters
from nexus_ensembles.diffusion.previews import Previews
from nexus_ensembles.diffusion.schedulers import Scheduler
from nexus_ensembles.diffusion.tiers import COOL_DOWN_SECONDS, Breaker, Tier
from nexus_ensembles.errors import OutOfMemory
from nexus_ensembles.imaging import png
from nexus_ensembles.imaging.decode import Photo, decode_mask
from nexus_ensembles.imaging.photo_store import PhotoStore, SentImage
from nexus_ensembles.networks import Array, Bool, Float32, Networks
from nexus_ensembles.prompts.clip_tokenizer import ClipTokenizer
from nexus_ensembles.prompts.content_filter import ContentFilter

# The padding of a prompt for SDXL's second text encoder; for the others it is the token that ends the text.
SDXL_PADDING = 0


@dataclass(frozen=True)
class Progress:
    """`step` of `total` steps is done; `preview`, if asked for, is a small JPEG of the photo as it stands."""

    step: int
    total: int
    preview: bytes | None


@dataclass(frozen=True)
class Result:
    """`image` is a PNG of the photo's size; `model` the tier that painted it, "sdxl" or "sd15".

    `timings` are seconds by phase ("text", "vae_encode", "denoise", "vae_decode") and in "total"; `notices` are
    sentences on anything that the caller may not expect.
    """

    image: bytes
    seed: int
    model: str
    timings: dict[str, float]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """A request, decoded: BOOL [H, W] `mask`, INT32 [rows, 77] `tokens` and `tokens_2` for the text encoders."""

    parameters: FillParameters
    scheduler: Scheduler
    photo: Photo
    mask: Bool
    tokens: Array
    tokens_2: Array


class _Stopwatch:
    """Seconds by phase; a phase begins where the one before ended."""

    def __init__(self) -> None:
        self._lap = time.perf_counter()
        self.seconds: dict[str, float] = {}

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase], self._lap = now - self._lap, now


class GenerativeFill:
    """The pipeline and its state between requests; one instance serves a whole model.

    Usage:

        fill = GenerativeFill.load(Path("model_repository/generative_fill/1"), {})
        async for event in fill.run(networks, image=photo, mask=mask, prompt="a wooden bench"):
            ...  # Progress, after each step, and last the Result
    """

    def __init__(
        self, tokenizer: ClipTokenizer, content_filter: ContentFilter, tiers: list[Tier], breaker: Breaker
    ) -> None:
        """`breaker` guards the first of `tiers`; a second takes over while the first is out of memory."""
        self._tokenizer = tokenizer
        self._content_filter = content_filter
        # The last tier has no breaker: skipping it would leave nothing to try.
        self._tiers = list(zip(tiers, [breaker, None] if len(tiers) > 1 else [None]))

    @classmethod
    def load(cls, folder: Path, parameters: Mapping[str, str]) -> GenerativeFill:
        """Read the files that the export wrote into `folder`: merges.txt, and a config of each tier that is built.

        The model's `parameters` may hold `content_filter` ("on", "off" or the path of a word file), `fallback_networks`
        (without them the second tier is not used) and `cool_down_seconds` of the first tier's breaker.
        """
        tiers = [Tier.load(folder, "sdxl")]
        if parameters.get("fallback_networks") and (folder / "sd15.json").is_file():
            tiers.append(Tier.load(folder, "sd15"))
        return cls(
            ClipTokenizer.load(folder / "merges.txt"),
            ContentFilter.load(parameters.get("content_filter", "on")),
            tiers,
            Breaker(float(parameters.get("cool_down_seconds", COOL_DOWN_SECONDS))),
        )

    @property
    def breaker_open(self) -> dict[str, bool]:
        """By the name of each tier, True while requests skip it because it was out of memory."""
        return {tier.name: breaker is not None and breaker.is_open for tier, breaker in self._tiers}

    async def run(
        self,
        networks: Networks,
        *,
        image: bytes,
        mask: bytes,
        prompt: str,
        negative_prompt: str = "blurry, low quality",
        steps: int = 30,
        guidance_scale: float = 7.5,
        strength: float = 0.8,
        seed: int = 42,
        scheduler: str = "euler",
        preview_every: int = 0,
        store: PhotoStore | None = None,
    ) -> AsyncGenerator[Progress | Result, None]:
        """Paint `prompt` into the pixels of `image` under `mask`; yields each step, then the result.

        The result's pixels outside the mask are those of the input, byte for byte; those inside are opaque. At a
        `strength` below 1 the fill starts from the noised original, and takes that share of `steps`. A guidance_scale
        of 1 leaves the negative prompt out, at half the work. The same `seed` gives the same fill. When a tier runs
        out of memory the fill starts over with the next, and so does the count of its steps.
        With a `store`, `image` may be a reference.
        Raises BadInput, ImageNotHeld, and OutOfMemory when no tier has room.
        """
        began = time.perf_counter()
        parameters = FillParameters(
            prompt, negative_prompt, steps, guidance_scale, strength, seed, scheduler, preview_every
        )
        sampler = parameters.make_scheduler()
        self._content_filter.check(prompt)
        photo = await (await SentImage.find(image, store)).decode()
        selected = await asyncio.to_thread(decode_mask, mask, photo.size)
        encoded = [self._tokenizer.encode(text, self._tokenizer.end) for text in parameters.prompts]
        tokens = np.stack([encoding.ids for encoding in encoded])
        # behind the first token that ends the text
        is_padding = np.cumsum(tokens == self._tokenizer.end, axis=1) > 1
        tokens_2 = np.where(is_padding, np.int32(SDXL_PADDING), tokens)
        job = _Job(parameters, sampler, photo, selected, tokens, tokens_2)
        for tier, breaker in self._tiers:
            attempt = breaker.admit() if breaker else nullcontext()
            if attempt is None:
                continue
            try:
                with attempt:
                    async with aclosing(_paint(networks, tier, job)) as events:
                        async for event in events:
                            if isinstance(event, Progress):
                                yield event
                            else:
                                filled, seconds = event
            except OutOfMemory:
                continue
            timings = {**seconds, "total": time.perf_counter() - began}
            notices = self._notices(tier, [encoding.ignored for encoding in encoded])
            yield Result(filled, seed, tier.name, timings, notices)
            return
        raise OutOfMemory(
            "out of memory: the device has no room for a fill now; try again later, or with guidance_scale 1, which "
            "takes less."
        )

    def _notices(self, tier: Tier, ignored: list[str]) -> tuple[str, ...]:
        notices = [
            f'the models read 77 tokens of a prompt; this was ignored: "{text}".' for text in ignored if text
        ]
        best = self._tiers[0][0]
        if tier is not best:
            notices.append(f"the device is out of memory for {best.name}, so {tier.name} painted this.")
        if tier.random_weights:
            notices.append(f"the {tier.name} weights are random: it paints noise, not pictures.")
        return tuple(notices)


async def _paint(
    networks: Networks, tier: Tier, job: _Job
) -> AsyncGenerator[Progress | tuple[bytes, dict[str, float]], None]:
    """Paint a job with one tier's networks; yields each step, then the PNG and the seconds by phase."""
    watch, parameters, scheduler = _Stopwatch(), job.parameters, job.scheduler
    tokens = {"input_ids": job.tokens, **({"input_ids_2": job.tokens_2} if tier.is_sdxl else {})}
    conditions = await networks.run_rows(f"{tier.name}_text_encoder", **tokens)
    watch.lap("text")

    crop = await asyncio.to_thread(InpaintCrop.around, job.mask, tier.side)
    image = await asyncio.to_thread(crop.apply_image, job.photo.rgb)
    mask = await asyncio.to_thread(crop.apply_mask, job.mask)
    masked = await asyncio.to_thread(masked_image, image, mask)
    if tier.is_sdxl:  # its size, the crop's top left corner in it and the size to paint, each (height, width)
        sizes = np.array([*mask.shape, 0, 0, *mask.shape], np.float32)
        conditions["time_ids"] = np.tile(sizes, (len(job.tokens), 1))
    vae_encoder = f"{tier.name}_vae_encoder"
    masked_latents = (await networks.run(vae_encoder, image=masked))["latent"]
    original = None
    if not scheduler.starts_from_noise:
        original = (await networks.run(vae_encoder, image=image))["latent"]
    watch.lap("vae_encode")

    generator = np.random.Generator(np.random.Philox(parameters.seed))

    def draw() -> Float32:
        return generator.standard_normal(masked_latents.shape, np.float32)

    known = np.concatenate([latent_mask(mask), masked_latents])
    previews = None
    if parameters.preview_every:
        previews = await asyncio.to_thread(Previews, job.photo.rgb, job.mask, crop, tier.latent_rgb)
    total = len(scheduler.timesteps)
    latents = scheduler.start(draw(), original)
    for index, timestep in enumerate(scheduler.timesteps):
        row = np.concatenate([scheduler.scale(latents, index), known])
        rows = len(job.tokens)
        outputs = await networks.run_rows(
            f"{tier.name}_unet",
            sample=np.tile(row, (rows, 1, 1, 1)),
            timestep=np.full((rows, 1), timestep, np.float32),
            **conditions,
        )
        noise = _guide(outputs["noise"], parameters.guidance_scale)
        latents, denoised = scheduler.step(noise, index, latents, draw)
        preview = None
        if previews and (index + 1) % parameters.preview_every == 0:
            preview = await asyncio.to_thread(previews.render, denoised)
        yield Progress(index + 1, total, preview)
    watch.lap("denoise")

    fill = (await networks.run(f"{tier.name}_vae_decoder", latent=latents))["image"]
    watch.lap("vae_decode")
    fill = await asyncio.to_thread(match_colours, fill, image, mask)
    filled = await asyncio.to_thread(crop.paste, job.photo, job.mask, fill)
    yield await asyncio.to_thread(png.encode, filled), watch.seconds


def _guide(noise: Float32, scale: float) -> Float32:
    """FP32 [rows, 4, h, w] predictions, the negative prompt's first -> FP32 [4, h, w]: classifier-free guidance."""
    guided: Float32 = noise[-1] if len(noise) == 1 else noise[0] + np.float32(scale) * (noise[1] - noise[0])
    return guided
