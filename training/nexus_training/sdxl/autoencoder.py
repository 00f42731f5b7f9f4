"""Stage one: the autoencoder, trained for PSNR alone: the quality of round trips is what matters here."""

import math
from collections.abc import Callable

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor

from nexus_training.muon import Muon
from nexus_training.sdxl.networks import latents
from nexus_training.sdxl.photo_crops import SIDE, PhotoCrops
from nexus_training.sdxl.pictures import make_pictures
from nexus_training.sdxl.stage import RunSettings, Stage

# Keeps latents small and lets the encoder add some noise, which makes them easier to diffuse.
KL_WEIGHT = 3e-3

# Of the latents at the start: a picture drowned in noise teaches nothing.
INITIAL_LOG_VARIANCE = -6.0

# Share of a batch that is plain photo crops; the rest shows scenes and objects.
PHOTO_SHARE = 0.8

# Sides of the crops in pixels, by the fraction of the training from which they are used: many small crops first, at
# last the served size, because norms and attention see the whole picture.
SIDES = {0.0: 64, 0.4: 128, 0.65: SIDE}

# Number of pictures of scenes and objects, made once, that crops are cut from.
DRAWN = 1024

# Added to the squared error (range -1..1) before its logarithm: 46 dB count as perfect.
NOISE_FLOOR = 1e-4

# Batches of pictures that the standard deviation of latents is measured on.
SCALE_BATCHES = 16


def train_autoencoder(
    vae: AutoencoderKL,
    photos: PhotoCrops,
    settings: RunSettings,
    on_save: Callable[[AutoencoderKL], None],
) -> AutoencoderKL:
    """Train until the budget is spent; return the moving average with its scaling factor measured.

    `on_save` is called with the same at every save.
    """
    vae = vae.to(photos.device, memory_format=torch.channels_last)
    with torch.no_grad():
        vae.quant_conv.bias[vae.config.latent_channels :] = INITIAL_LOG_VARIANCE
    optimiser = Muon(vae, outer=("conv_in", "conv_out", "quant_conv"))
    stage = Stage("autoencoder", vae, optimiser, settings, key="vae")
    averaged = stage.average.module
    if stage.state is not None:
        averaged.register_to_config(scaling_factor=stage.state["scaling_factor"])
    if stage.fraction >= 1.0:
        return averaged
    crops = MixedCrops(photos, settings.seed)

    def save() -> None:
        averaged.register_to_config(scaling_factor=measure_scale(averaged, crops, settings.batch))
        stage.save(scaling_factor=averaged.config.scaling_factor)
        on_save(averaged)

    while (fraction := stage.fraction) < 1.0:
        images = crops.draw(stage.step, settings.batch, crop_side(fraction))
        decibels, divergence = reconstruct(vae, images, _noise(images, settings.seed, stage.step))
        # The mean logarithm of the squared error weighs every picture the same, smooth or rough.
        stage.update(-decibels * math.log(10) / 10 + KL_WEIGHT * divergence, fraction)
        if stage.is_log_due:
            stage.log(fraction, f"{decibels.item():.2f} dB kl {divergence.item():.2f}")
        if stage.is_save_due:
            save()
    save()
    settings.log(f"autoencoder done: {stage.step} steps, scaling factor {averaged.config.scaling_factor:.4f}")
    return averaged


def crop_side(fraction: float) -> int:
    """Side of the crops in pixels at a fraction of the training."""
    return SIDES[max(start for start in SIDES if start <= fraction)]


def reconstruct(vae: AutoencoderKL, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Mean PSNR in dB of reconstructed pictures (0..1), and the KL divergence from the unit normal per latent."""
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
    """Noise for the latents of a step, a function of seed and step, so that a resumed run draws the same."""
    count, _, height, width = images.shape
    generator = torch.Generator(images.device).manual_seed(seed * 1_000_003 + step)
    return torch.randn((count, 4, height // 8, width // 8), generator=generator, device=images.device)


class MixedCrops:
    """Crops of photos and of `DRAWN` pictures of scenes and objects."""

    def __init__(self, photos: PhotoCrops, seed: int) -> None:
        self.photos, self.seed = photos, seed
        made = [make_pictures(photos, 64, seed + 1, part).images for part in range(DRAWN // 64)]
        self.drawn = (torch.cat(made) * 255).round().byte()

    def draw(self, step: int, batch: int, side: int) -> Tensor:
        """[n, 3, side, side] in 0..1, with as many pixels as `batch` of the smallest crops."""
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
def measure_scale(vae: torch.nn.Module, crops: MixedCrops, batch: int) -> float:
    """One over the standard deviation of latents, which scales them to a standard deviation of 1."""
    values = [latents(vae, crops.draw(10**9 + step, batch, SIDE)).float() for step in range(SCALE_BATCHES)]
    return 1.0 / torch.cat(values).std().item()


@torch.inference_mode()
def round_trip(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, list[float]]:
    """Encode, decode and round to bytes pictures [n, 3, H, W] in 0..1; return them with the PSNR of each."""
    # One at a time to bound memory.
    rebuilt = torch.cat([vae.decode(latents(vae, image[None])).sample.float() for image in images])
    rounded = ((rebuilt / 2 + 0.5).clamp(0, 1) * 255).round() / 255
    errors = ((rounded - images) ** 2).mean((1, 2, 3))
    return rounded, (-10 * torch.log10(errors)).tolist()
