"""The whole of generative fill against diffusers' inpainting pipelines: same checkpoint, same noise, same picture."""

import asyncio
import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.pipelines.stable_diffusion import pipeline_stable_diffusion_inpaint
from diffusers.pipelines.stable_diffusion_xl import pipeline_stable_diffusion_xl_inpaint
from diffusers.schedulers import scheduling_euler_ancestral_discrete, scheduling_lcm
from nexus_ensembles.diffusion.crop import GREY, InpaintCrop
from nexus_ensembles.diffusion.tiers import Breaker, Tier
from nexus_ensembles.generative_fill import GenerativeFill
from nexus_ensembles.local import LocalNetworks
from nexus_ensembles.networks import Array
from nexus_ensembles.prompts.clip_tokenizer import ClipTokenizer
from nexus_ensembles.prompts.content_filter import ContentFilter
from numpy.typing import NDArray
from PIL import Image

from .test_schedulers import reference_scheduler

# Runs a fill; gives the final latents FP32 [4,h,w] and their picture UINT8 [H,W,3].
Run = Callable[..., tuple[NDArray[np.float32], NDArray[np.uint8]]]
# A part of a photo of a size (height, width), and a mask of that size.
Crop = Callable[[tuple[int, int]], tuple[Image.Image, Image.Image]]

TIERS = ("sdxl", "sd15")
SIDE = 160
SIZES = ((128, 192), (192, 128))
SCHEDULERS = ("euler", "euler_ancestral", "dpmpp_2m", "ddim", "lcm")
STRENGTHS = (0.3, 0.8, 1.0)
GUIDANCE_SCALES = (1.0, 7.5)
CASES = [*itertools.product(SCHEDULERS, STRENGTHS, GUIDANCE_SCALES), ("dpmpp_2m_karras", 0.8, 7.5)]
STEPS = 10
SEED = 7
PROMPTS = {"prompt": "a red fox on a bench", "negative_prompt": "blurry, low quality"}
# In deviations of the latents: the published scaling factors give photos latents of deviation 1, but random networks
# leave the noise in, of which there is up to 14.6 (LCM: 60), and errors grow with it. Each call of a UNet differs by
# 3e-6, as much as either side does from FP64, and one of the VAE's encoder by 4e-5 where large parts are flat; guidance
# of 7.5 multiplies that by up to 14, and the steps add up. The worst measured is 1.1e-4, and 79 dB.
LATENT_TOLERANCE = 1e-3
PSNR_DECIBELS = 45
# The effect of half a level of grey under the mask on that. The worst measured is 4.3e-2, at a guidance of 7.5.
GREY_TOLERANCE = 8e-2

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    # diffusers hands torch tensors to np.array, which numpy 2 remarks on
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


class Recorder(LocalNetworks):
    """Records the inputs and outputs of the VAE decoder: the final latents and their picture."""

    async def run_rows(self, network: str, **inputs: Array) -> dict[str, Array]:
        outputs = await super().run_rows(network, **inputs)
        if network.endswith("_vae_decoder"):
            self.latents, self.picture = inputs["latent"][0], outputs["image"][0]
        return outputs


@pytest.fixture(scope="module")
def recorder(artifact: Callable[[str], Path]) -> Recorder:
    """Both tiers, built."""
    parts = ("text_encoder", "vae_encoder", "unet", "vae_decoder")
    paths = [artifact(f"{tier}_{part}") for tier in TIERS for part in parts]
    return Recorder(paths[0].parents[2])


@pytest.fixture(scope="module")
def ours(recorder: Recorder, default_checkpoint: Callable[[str], Path]) -> Run:
    """Our pipeline, on one tier."""
    tokenizer = ClipTokenizer.load(default_checkpoint("sdxl") / "tokenizer" / "merges.txt")
    no_previews = np.zeros((5, 3), np.float32)

    def run(
        tier: str, photo: Image.Image, mask: Image.Image, **options: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        fill = GenerativeFill(
            tokenizer, ContentFilter.load("off"), [Tier(tier, SIDE, no_previews, True)], Breaker()
        )

        async def exhaust() -> None:
            request = {"image": _png(photo), "mask": _png(mask), **PROMPTS, "steps": STEPS, "seed": SEED}
            async for _ in fill.run(recorder, **{**request, **options}):
                pass

        asyncio.run(exhaust())
        return recorder.latents, recorder.picture

    return run


@pytest.fixture
def theirs(reference: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> Run:
    """diffusers' pipeline, which here draws its noise from our stream and encodes to the posterior's mean.

    `grey` is the value that it puts under the mask, from -1 to 1.
    """
    stream = np.random.Generator(np.random.Philox(SEED))

    def draw(shape: tuple[int, ...], **_: Any) -> torch.Tensor:
        return torch.from_numpy(stream.standard_normal(tuple(shape), np.float32))

    for module in (
        pipeline_stable_diffusion_xl_inpaint,
        pipeline_stable_diffusion_inpaint,
        scheduling_euler_ancestral_discrete,
        scheduling_lcm,
    ):
        monkeypatch.setattr(module, "randn_tensor", draw)
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, _=None: self.mode())

    @torch.no_grad()
    def run(
        tier: str, photo: Image.Image, mask: Image.Image, grey: float, **options: Any
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        pipeline, seen = reference(tier), []
        encode = type(pipeline.vae).encode.__get__(pipeline.vae)
        # No byte of a photo becomes zero, so that zeros mark the blanked pixels. Their strides are set right because
        # torch's group norm of channels-last pixels is off by 1e-4.
        monkeypatch.setattr(
            pipeline.vae, "encode", lambda pixels: encode(torch.where(pixels == 0, grey, pixels).contiguous())
        )
        monkeypatch.setattr(pipeline, "scheduler", reference_scheduler(options.pop("scheduler"), STEPS))

        def remember(_: Any, step: int, timestep: int, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:  # noqa: ARG001
            seen.append(tensors["latents"])
            return {}

        output = pipeline(
            **PROMPTS,
            image=photo,
            mask_image=mask,
            height=photo.height,
            width=photo.width,
            num_inference_steps=STEPS,
            output_type="np",
            callback_on_step_end=remember,
            **options,
        )
        return seen[-1][0].numpy(), np.rint(output.images[0] * 255).astype(np.uint8)

    return run


@pytest.fixture(scope="module")
def crop(photo: Callable[[str], Image.Image]) -> Crop:
    """Cuts a photo, and masks an oval in it."""

    def cut(size: tuple[int, int]) -> tuple[Image.Image, Image.Image]:
        height, width = size
        rows, columns = np.mgrid[:height, :width]
        oval = ((rows / height - 0.5) / 0.27) ** 2 + ((columns / width - 0.45) / 0.3) ** 2 < 1
        picture = photo("coffee").crop((150, 40, 150 + width, 40 + height))
        # Its tips, thinner than a latent, are widened for our networks; diffusers is given the same mask.
        working = InpaintCrop.around(oval, SIDE)
        assert working.size == (width, height)
        return picture, Image.fromarray(working.apply_mask(oval))

    return cut


def _png(image: Image.Image) -> bytes:
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def _psnr(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> float:
    error = np.square(found.astype(np.float64) - expected).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _deviations(found: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest difference, in deviations of the expected latents where those are above 1."""
    return float(np.abs(found - expected).max() / max(1, expected.std()))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("scheduler", "strength", "guidance_scale"), CASES)
@pytest.mark.parametrize("tier", TIERS)
def test_same_latents_and_picture_as_diffusers(
    tier: str,
    scheduler: str,
    strength: float,
    guidance_scale: float,
    size: tuple[int, int],
    ours: Run,
    theirs: Run,
    crop: Crop,
) -> None:
    """From the same pixels: under the mask our encoder is given a byte, and so is diffusers' here."""
    options = {"scheduler": scheduler, "strength": strength, "guidance_scale": guidance_scale}
    photo, mask = crop(size)
    grey = GREY / 127.5 - 1
    expected, expected_picture = theirs(tier, photo, mask, grey=grey, **options)
    latents, picture = ours(tier, photo, mask, **options)
    assert latents.shape == (4, size[0] // 8, size[1] // 8)
    assert _deviations(latents, expected) <= LATENT_TOLERANCE
    assert _psnr(picture, expected_picture) >= PSNR_DECIBELS


@pytest.mark.parametrize(("strength", "guidance_scale"), [(0.3, 7.5), (1.0, 1.0), (1.0, 7.5)])
@pytest.mark.parametrize("tier", TIERS)
def test_the_grey_between_two_bytes_makes_no_difference_one_could_see(
    tier: str, strength: float, guidance_scale: float, ours: Run, theirs: Run, crop: Crop
) -> None:
    options = {"scheduler": "euler", "strength": strength, "guidance_scale": guidance_scale}
    photo, mask = crop(SIZES[0])
    expected, expected_picture = theirs(tier, photo, mask, grey=0.0, **options)
    latents, picture = ours(tier, photo, mask, **options)
    assert LATENT_TOLERANCE < _deviations(latents, expected) <= GREY_TOLERANCE
    assert _psnr(picture, expected_picture) >= PSNR_DECIBELS
