"""generative_fill: repaint the masked region of a photo from a prompt.

Latent diffusion inpainting as in diffusers' StableDiffusionXLInpaintPipeline and StableDiffusionInpaintPipeline
(arXiv:2112.10752, arXiv:2307.01952), with classifier-free guidance (arXiv:2207.12598). Each step is one call of the
UNet with one row a prompt, so that the rows of different requests, at different steps, share Triton's batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nexus_ensembles.diffusion import crop
from nexus_ensembles.diffusion.crop import Frame
from nexus_ensembles.diffusion.parameters import Order
from nexus_ensembles.diffusion.previews import Previews
from nexus_ensembles.diffusion.tiers import COOL_DOWN_SECONDS, Breaker, Tier
from nexus_ensembles.errors import OutOfMemory
from nexus_ensembles.imaging import png
from nexus_ensembles.imaging.decode import Photo, decode_mask, decode_photo
from nexus_ensembles.networks import Array, Bool, Float32, Networks
from nexus_ensembles.prompts.clip_tokenizer import ClipTokenizer
from nexus_ensembles.prompts.content_filter import ContentFilter
from nexus_ensembles.stopwatch import Stopwatch

# What fills up a prompt for SDXL's second text encoder; for the others it is the token that ends the text.
SDXL_PADDING = 0


@dataclass(frozen=True)
class Progress:
    """`step` of `total` steps is done; `preview`, where asked for, is a small JPEG of the photo as it stands."""

    step: int
    total: int
    preview: bytes | None


@dataclass(frozen=True)
class Result:
    """`image` is a PNG of the photo's size; `model` the tier that painted it, "sdxl" or "sd15".

    `timings` are seconds by phase ("text", "vae_encode", "denoise", "vae_decode") and in "total", `notices`
    sentences on what the caller may not expect.
    """

    image: bytes
    seed: int
    model: str
    timings: dict[str, float]
    notices: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    """A request, decoded: BOOL [H, W] `hole`, INT32 [rows, 77] `tokens` and `tokens_2` for the text encoders."""

    order: Order
    photo: Photo
    hole: Bool
    tokens: Array
    tokens_2: Array


class GenerativeFill:
    """The pipeline with what it keeps between requests: one of it serves a whole model.

    Usage:

        fill = GenerativeFill.load(Path("model_repository/generative_fill/1"), {})
        async for event in fill.run(networks, image=photo, mask=mask, prompt="a wooden bench"):
            ...  # Progress, after each step, and last the Result
    """

    def __init__(
        self, tokenizer: ClipTokenizer, content_filter: ContentFilter, tiers: list[Tier], breaker: Breaker
    ) -> None:
        """`breaker` guards the first of `tiers`; there may be a second, for when the first is out of memory."""
        self._tokenizer = tokenizer
        self._content_filter = content_filter
        # The last resort is always tried: leaving it out would spare nobody anything.
        self._tiers = list(zip(tiers, [breaker, None] if len(tiers) > 1 else [None]))

    @classmethod
    def load(cls, folder: Path, parameters: Mapping[str, str]) -> GenerativeFill:
        """Read what the export wrote into `folder`: merges.txt and the facts of each tier that is built.

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
    def left_out(self) -> dict[str, bool]:
        """By the name of each tier, whether it is left out now because it was out of memory."""
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
    ) -> AsyncGenerator[Progress | Result, None]:
        """Paint what `prompt` says into the pixels of `image` under `mask`; yields each step, then the result.

        The result's pixels outside the mask are those of the input, byte for byte; those inside are opaque. At a
        `strength` below 1 the fill starts from the noised original, and takes that share of `steps`. A guidance_scale
        of 1 leaves the negative prompt out, at half the work. The same `seed` gives the same fill. When a tier runs
        out of memory the fill begins anew with the next, and so does the count of its steps.
        Raises BadInput, and OutOfMemory when no tier has room.
        """
        watch = Stopwatch()
        order = Order(
            prompt, negative_prompt, steps, guidance_scale, strength, seed, scheduler, preview_every
        )
        self._content_filter.check(prompt)
        photo = await asyncio.to_thread(decode_photo, image)
        hole = await asyncio.to_thread(decode_mask, mask, photo.size)
        rows = [self._tokenizer.encode(text, self._tokenizer.end) for text in order.prompts]
        tokens = np.stack([row.ids for row in rows])
        # behind the first token that ends the text
        is_padding = np.cumsum(tokens == self._tokenizer.end, axis=1) > 1
        job = _Job(order, photo, hole, tokens, np.where(is_padding, np.int32(SDXL_PADDING), tokens))
        for tier, breaker in self._tiers:
            attempt = breaker.admit() if breaker else nullcontext()
            if attempt is None:
                continue
            try:
                with attempt:
                    async with aclosing(_paint(networks, tier, job, watch)) as events:
                        async for event in events:
                            if isinstance(event, Progress):
                                yield event
                            else:
                                filled = event
            except OutOfMemory:
                continue
            yield Result(
                filled, seed, tier.name, watch.all(), self._notices(tier, [row.ignored for row in rows])
            )
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
    networks: Networks, tier: Tier, job: _Job, watch: Stopwatch
) -> AsyncGenerator[Progress | bytes, None]:
    """Paint a job with one tier's networks; yields each step, then the PNG."""
    order = job.order
    watch.restart()
    tokens = {"input_ids": job.tokens, **({"input_ids_2": job.tokens_2} if tier.is_sdxl else {})}
    conditions = await networks.run_rows(f"{tier.name}_text_encoder", **tokens)
    watch.lap("text")

    frame = await asyncio.to_thread(Frame.around, job.hole, tier.side)
    picture = await asyncio.to_thread(frame.picture, job.photo.rgb)
    mask = await asyncio.to_thread(frame.mask, job.hole)
    blank = await asyncio.to_thread(crop.blank, picture, mask)
    if tier.is_sdxl:  # its size, the crop's top left corner in it and the size to paint, each (height, width)
        sizes = np.array([*mask.shape, 0, 0, *mask.shape], np.float32)
        conditions["time_ids"] = np.tile(sizes, (len(job.tokens), 1))
    scheduler = order.make_scheduler()
    vae_encoder = f"{tier.name}_vae_encoder"
    surroundings = (await networks.run(vae_encoder, image=blank))["latent"]
    original = None
    if not scheduler.starts_from_noise:
        original = (await networks.run(vae_encoder, image=picture))["latent"]
    watch.lap("vae_encode")

    generator = np.random.Generator(np.random.Philox(order.seed))

    def draw() -> Float32:
        return generator.standard_normal(surroundings.shape, np.float32)

    known = np.concatenate([crop.latent_mask(mask), surroundings])
    previews = None
    if order.preview_every:
        previews = await asyncio.to_thread(Previews, job.photo.rgb, job.hole, frame, tier.latent_rgb)
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
        noise = _guide(outputs["noise"], order.guidance_scale)
        latents, denoised = scheduler.step(noise, index, latents, draw)
        preview = None
        if previews and (index + 1) % order.preview_every == 0:
            preview = await asyncio.to_thread(previews.render, denoised)
        yield Progress(index + 1, total, preview)
    watch.lap("denoise")

    fill = (await networks.run(f"{tier.name}_vae_decoder", latent=latents))["image"]
    watch.lap("vae_decode")
    fill = await asyncio.to_thread(crop.match_colours, fill, picture, mask)
    filled = await asyncio.to_thread(frame.paste, job.photo, job.hole, fill)
    yield await asyncio.to_thread(png.encode, filled)


def _guide(noise: Float32, scale: float) -> Float32:
    """FP32 [rows, 4, h, w] predictions, the negative prompt's first -> FP32 [4, h, w]: classifier-free guidance."""
    guided: Float32 = noise[-1] if len(noise) == 1 else noise[0] + np.float32(scale) * (noise[1] - noise[0])
    return guided
