"""Stage one: the autoencoder, for the mean PSNR; no adversary, as round trips are what counts here."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from nexus_training.muon import Muon
from nexus_training.runtime import Budget, MovingAverage, learning_rate, load, save
from nexus_training.sdxl.networks import latents
from nexus_training.sdxl.photo_crops import SIDE, PhotoCrops
from nexus_training.sdxl.pictures import make_pictures

# Keeps latents small and lets the encoder add some noise: smoother to diffuse.
KL_WEIGHT = 3e-3

# Of the latents at the start: nothing is learned from a picture that drowns in noise.
FIRST_LOG_VARIANCE = -6.0

# Part of a batch that is plain photo crops; the rest shows scenes and objects.
PHOTO_SHARE = 0.8

# Sides of the crops in pixels, by the fraction of the training that they begin at: many small ones first, in the end
# the size that is served, since norms and attention look at the whole picture.
SIDES = {0.0: 64, 0.4: 128, 0.65: SIDE}

# Pictures of scenes and objects, made once, that crops are cut from.
DRAWN = 1024

# Added to the squared error (-1..1) before its logarithm: 46 dB are as good as perfect.
NOISE_FLOOR = 1e-4

REPORT_EVERY = 50

# Batches of pictures that the latents' deviation is measured on.
SCALE_BATCHES = 16


def train_autoencoder(
    vae: AutoencoderKL,
    photos: PhotoCrops,
    *,
    out: Path,
    minutes: float,
    steps: int | None,
    batch: int,
    rate: float,
    seed: int,
    save_seconds: float,
    report: Callable[[str], None],
    show: Callable[[AutoencoderKL], None],
) -> AutoencoderKL:
    """Train until the budget is spent; returns the moving average with its scaling factor measured.

    `show` gets the same at every save.
    """
    device = photos.device
    path = out / "autoencoder.pt"
    vae = vae.to(device, memory_format=torch.channels_last)
    with torch.no_grad():
        vae.quant_conv.bias[vae.config.latent_channels :] = FIRST_LOG_VARIANCE
    average = MovingAverage(vae, 0.998)
    optimiser = Muon(vae, outer=("conv_in", "conv_out", "quant_conv"))
    step, budget = 0, Budget(minutes, steps)
    state = load(path, device)
    if state is not None:
        vae.load_state_dict(state["vae"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, budget = state["step"], Budget(minutes, steps, state["seconds"])
        average.module.register_to_config(scaling_factor=state["scaling_factor"])
    finished = average.module
    if budget.fraction(step) >= 1.0:
        return finished
    pictures = Crops(photos, seed)

    def keep() -> None:
        finished.register_to_config(scaling_factor=measure_scale(finished, pictures, batch))
        save(
            path,
            {
                "vae": vae.state_dict(),
                "average": finished.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": budget.spent_seconds,
                "scaling_factor": finished.config.scaling_factor,
            },
        )
        show(finished)

    saved = budget.spent_seconds
    reported, since = step, budget.spent_seconds
    while (fraction := budget.fraction(step)) < 1.0:
        images = pictures.draw(step, batch, crop_side(fraction))
        decibels, divergence = reconstruct(vae, images, _noise(images, seed, step))
        # The mean logarithm of the squared error: every picture counts the same, smooth or rough.
        loss = -decibels * math.log(10) / 10 + KL_WEIGHT * divergence
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        adapted = learning_rate(rate, step, fraction)
        optimiser.step(adapted, adapted / 2)
        average.update(step)
        step += 1
        if step % REPORT_EVERY == 0:
            pace = (step - reported) / (budget.spent_seconds - since)
            report(
                f"autoencoder step {step} {fraction:.0%} {pace:.2f} it/s "
                f"{decibels.item():.2f} dB kl {divergence.item():.2f}"
            )
            reported, since = step, budget.spent_seconds
        if budget.spent_seconds - saved > save_seconds:
            keep()
            saved = budget.spent_seconds
    keep()
    report(f"autoencoder done: {step} steps, scaling factor {finished.config.scaling_factor:.4f}")
    return finished


def crop_side(fraction: float) -> int:
    return SIDES[max(start for start in SIDES if start <= fraction)]


def reconstruct(vae: AutoencoderKL, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean PSNR in dB of pictures (0..1) passed through, and the divergence from the unit normal a latent number."""
    target = 2 * images - 1
    with torch.autocast(images.device.type, torch.bfloat16):
        mean, spread = vae.quant_conv(vae.encoder(target)).float().chunk(2, 1)
        spread = spread.clamp(-20, 10)
        drawn = mean + noise * (0.5 * spread).exp()
        rebuilt = vae.decoder(vae.post_quant_conv(drawn)).float()
    squared = ((rebuilt - target) ** 2).mean((1, 2, 3))
    divergence = 0.5 * (mean**2 + spread.exp() - 1 - spread).mean()
    return -10 * torch.log10((squared + NOISE_FLOOR) / 4).mean(), divergence


def _noise(images: Tensor, seed: int, step: int) -> Tensor:
    """For one step's latents: a function of seed and step, so that a resumed run draws the same."""
    count, _, height, width = images.shape
    generator = torch.Generator(images.device).manual_seed(seed * 1_000_003 + step)
    return torch.randn((count, 4, height // 8, width // 8), generator=generator, device=images.device)


class Crops:
    """Crops of photos, and of pictures of scenes and objects made once."""

    def __init__(self, photos: PhotoCrops, seed: int) -> None:
        self.photos, self.seed = photos, seed
        made = [make_pictures(photos, 64, seed + 1, part).images for part in range(DRAWN // 64)]
        self.drawn = (torch.cat(made) * 255).round().byte()

    def draw(self, step: int, batch: int, side: int) -> Tensor:
        """[n, 3, side, side] in 0..1, as many pixels as `batch` of the smallest crops."""
        rng = np.random.default_rng((self.seed, step, 1))
        count = max(1, batch * SIDES[0.0] ** 2 // side**2)
        plain = int(rng.binomial(count, PHOTO_SHARE))
        cut = []
        for index in rng.integers(DRAWN, size=count - plain):
            top, left = rng.integers(SIDE - side + 1, size=2)
            cut.append(self.drawn[index, :, top : top + side, left : left + side].float() / 255)
        images = torch.cat([self.photos.crops(rng, plain, side), *(picture[None] for picture in cut)])
        return images.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def measure_scale(vae: torch.nn.Module, pictures: Crops, batch: int) -> float:
    """One over the standard deviation of latents, so that the scaled ones have unit deviation."""
    values = [latents(vae, pictures.draw(10**9 + step, batch, SIDE)).float() for step in range(SCALE_BATCHES)]
    return 1.0 / torch.cat(values).std().item()


@torch.inference_mode()
def round_trip(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, list[float]]:
    """Pictures [n, 3, H, W] in 0..1 encoded, decoded and rounded to bytes (in 0..1), and the PSNR of each."""
    # One at a time: photos may be many.
    rebuilt = torch.cat([vae.decode(latents(vae, image[None])).sample.float() for image in images])
    rounded = ((rebuilt / 2 + 0.5).clamp(0, 1) * 255).round() / 255
    errors = ((rounded - images) ** 2).mean((1, 2, 3))
    return rounded, (-10 * torch.log10(errors)).tolist()
