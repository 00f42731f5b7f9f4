"""Stage one: the autoencoder, for the least squared error; no adversary, as round trips are what counts here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from nexus_export.training.sdxl_data import make_pictures
from nexus_export.training.sdxl_networks import latents
from nexus_export.training.sdxl_photos import PhotoCrops
from nexus_export.training.sdxl_progress import Budget, MovingAverage, learning_rate, load, save

KL_WEIGHT = 1e-3
"""Keeps latents near unit deviation and lets the encoder add noise of about 3 %: smoother to diffuse."""

PHOTO_SHARE = 0.7
"""Part of a batch that is plain photo crops; the rest shows scenes and objects."""

REPORT_EVERY = 50

SCALE_BATCHES = 8
"""Batches of pictures that the latents' deviation is measured on."""


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
    compiled: bool,
    report: Callable[[str], None],
    show: Callable[[AutoencoderKL], None],
) -> AutoencoderKL:
    """Train until the budget is spent; returns the moving average with its scaling factor measured.

    ``show`` gets the same at every save.
    """
    device = photos.device
    path = out / "autoencoder.pt"
    vae = vae.to(device, memory_format=torch.channels_last)
    average = MovingAverage(vae, 0.998)
    optimiser = torch.optim.AdamW(vae.parameters(), lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    step, budget = 0, Budget(minutes, steps)
    state = load(path, device)
    if state is not None:
        vae.load_state_dict(state["vae"])
        average.module.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        step, budget = state["step"], Budget(minutes, steps, state["seconds"])
    network = torch.compile(_Reconstruction(vae)) if compiled else _Reconstruction(vae)

    finished: AutoencoderKL = average.module

    def keep() -> None:
        save(
            path,
            {
                "vae": vae.state_dict(),
                "average": finished.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": budget.spent_seconds,
            },
        )
        finished.register_to_config(scaling_factor=measure_scale(finished, photos, batch, seed))
        show(finished)

    saved = budget.spent_seconds
    reported, since = step, budget.spent_seconds
    while (fraction := budget.fraction(step)) < 1.0:
        optimiser.param_groups[0]["lr"] = learning_rate(rate, step, fraction)
        images = _pictures(photos, batch, seed, step)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            squared, absolute, divergence = network(images, _noise(images, seed, step))
        loss = 10 * squared + 0.5 * absolute + KL_WEIGHT * divergence
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimiser.step()
        average.update(step)
        step += 1
        if step % REPORT_EVERY == 0:
            decibels = -10 * torch.log10(squared.detach() / 4).item()
            pace = (step - reported) / (budget.spent_seconds - since)
            report(
                f"autoencoder step {step} {fraction:.0%} {pace:.2f} it/s {decibels:.2f} dB kl {divergence.item():.2f}"
            )
            reported, since = step, budget.spent_seconds
        if budget.spent_seconds - saved > save_seconds:
            keep()
            saved = budget.spent_seconds
    keep()
    report(f"autoencoder done: {step} steps, scaling factor {finished.config.scaling_factor:.4f}")
    return finished


class _Reconstruction(torch.nn.Module):
    """Mean squared and absolute error in -1..1, and the divergence from the unit normal a latent number."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        target = 2 * images - 1
        mean, spread = self.vae.quant_conv(self.vae.encoder(target)).float().chunk(2, 1)
        spread = spread.clamp(-20, 10)
        drawn = mean + noise * (0.5 * spread).exp()
        rebuilt = self.vae.decoder(self.vae.post_quant_conv(drawn)).float()
        divergence = 0.5 * (mean**2 + spread.exp() - 1 - spread).mean()
        return F.mse_loss(rebuilt, target), F.l1_loss(rebuilt, target), divergence


def _noise(images: Tensor, seed: int, step: int) -> Tensor:
    """For one step's latents: a function of seed and step, so that a resumed run draws the same."""
    count, _, height, width = images.shape
    generator = torch.Generator(images.device).manual_seed(seed * 1_000_003 + step)
    return torch.randn((count, 4, height // 8, width // 8), generator=generator, device=images.device)


def _pictures(photos: PhotoCrops, batch: int, seed: int, step: int) -> Tensor:
    rng = np.random.default_rng((seed, step, 1))
    plain = round(batch * PHOTO_SHARE)
    drawn = make_pictures(photos, batch - plain, seed + 1, step).images
    images = torch.cat([photos.crops(rng, plain), drawn])
    return images.contiguous(memory_format=torch.channels_last)


@torch.inference_mode()
def measure_scale(vae: torch.nn.Module, photos: PhotoCrops, batch: int, seed: int) -> float:
    """One over the standard deviation of latents, so that the scaled ones have unit deviation."""
    values = [latents(vae, _pictures(photos, batch, seed + 2, step)).float() for step in range(SCALE_BATCHES)]
    return 1.0 / torch.cat(values).std().item()


@torch.inference_mode()
def round_trip(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, list[float]]:
    """Pictures [n, 3, H, W] in 0..1 encoded, decoded and rounded to bytes (in 0..1), and the PSNR of each."""
    # One at a time: photos may be many.
    rebuilt = torch.cat([vae.decode(latents(vae, image[None])).sample.float() for image in images])
    rounded = ((rebuilt / 2 + 0.5).clamp(0, 1) * 255).round() / 255
    errors = ((rounded - images) ** 2).mean((1, 2, 3))
    return rounded, (-10 * torch.log10(errors)).tolist()
