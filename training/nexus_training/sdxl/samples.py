"""Samples of networks in training: the published sampler with guidance, and contact sheets."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import EulerDiscreteScheduler
from numpy.typing import NDArray
from torch import Tensor

from nexus_training.sdxl.denoiser import predict_noise
from nexus_training.sdxl.latent_buffer import mask_out
from nexus_training.sdxl.networks import SCHEDULER, Networks, encode_text, latents
from nexus_training.sdxl.pictures import to_latent_mask
from nexus_training.sdxl.tokenizer import Vocabulary

NEGATIVE_PROMPT = "blurry, low quality"


@torch.inference_mode()
def inpaint(
    networks: Networks,
    vocabulary: Vocabulary,
    images: Tensor,
    masks: Tensor,
    prompts: Sequence[str],
    *,
    steps: int = 12,
    guidance: float = 5.0,
    seed: int = 0,
) -> Tensor:
    """Inpaint `masks` [n, 1, H, W] of `images` [n, 3, H, W] (0..1) by `prompts`, with the Euler scheduler.

    Noise is drawn on the CPU, so that it is the same on every device.
    """
    device, count = images.device, len(prompts)
    scale = networks.vae.config.scaling_factor
    scheduler = EulerDiscreteScheduler.from_config(SCHEDULER)
    scheduler.set_timesteps(steps, device=device)
    generator = torch.Generator().manual_seed(seed)
    with torch.autocast(device.type, torch.bfloat16):
        known = latents(networks.vae, mask_out(images, masks)).float() * scale
        extra = torch.cat([to_latent_mask(masks), known], 1)
        texts = [*prompts, *[NEGATIVE_PROMPT] * count]
        ids = torch.from_numpy(vocabulary.encode(texts)).to(device)
        context, pooled = encode_text(networks.text_encoder, networks.text_encoder_2, ids)
        noisy = torch.randn((count, 4, *known.shape[2:]), generator=generator).to(device)
        noisy *= scheduler.init_noise_sigma
        for timestep in scheduler.timesteps:
            sample = torch.cat([scheduler.scale_model_input(noisy, timestep), extra], 1)
            predicted = predict_noise(
                networks.unet, torch.cat([sample, sample]), timestep.expand(2 * count), context, pooled
            ).float()
            positive, negative = predicted.chunk(2)
            noisy = scheduler.step(negative + guidance * (positive - negative), timestep, noisy).prev_sample
        painted: Tensor = networks.vae.decode(noisy / scale).sample.float()
    return images * (1 - masks) + (painted / 2 + 0.5).clamp(0, 1) * masks


SHEET_PROMPTS = (
    "a shiny red ball",
    "a blue cube",
    "a striped yellow ball on grass",
    "a wooden door",
    "a green cone",
    "a pink heart",
    "a dotted purple cylinder",
    "an orange star",
    "a white flower",
    "green leaves",
    "a brick wall",
    "",
)


def sheet_inputs(photos: Sequence[NDArray[np.uint8]], device: torch.device) -> tuple[Tensor, Tensor]:
    """For each prompt of the sheet a square of 256 pixels of `photos` in turn, and an ellipse or a box as its mask."""
    squares = [centre_square(photo) for photo in photos]
    chosen = np.stack([squares[index % len(squares)] for index in range(len(SHEET_PROMPTS))])
    images = torch.from_numpy(chosen).to(device).permute(0, 3, 1, 2).float() / 255
    axis = torch.arange(images.shape[-1], device=device, dtype=torch.float32)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    dx, dy = (x - 128).abs() / 78, (y - 138).abs() / 82
    masks = torch.stack(
        [(torch.maximum(dx, dy) if i % 2 else torch.hypot(dx, dy)) < 1 for i in range(len(images))]
    )
    return images, masks[:, None].float()


def centre_square(photo: NDArray[np.uint8], side: int = 256) -> NDArray[np.uint8]:
    """The centre of a photo, scaled to a square of `side` pixels."""
    height, width = photo.shape[:2]
    shortest = min(height, width)
    top, left = (height - shortest) // 2, (width - shortest) // 2
    middle = photo[top : top + shortest, left : left + shortest]
    return cv2.resize(middle, (side, side), interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


def write_contact_sheet(
    path: Path, columns: Sequence[Tensor], labels: Sequence[str], across: int = 2
) -> None:
    """Write cells of `columns` ([n, 3, H, W] each) side by side with a label, `across` cells to a line."""
    cells = []
    for index, label in enumerate(labels):
        cell = torch.cat([column[index] for column in columns], -1).permute(1, 2, 0)
        pixels = (cell.clamp(0, 1) * 255).round().byte().cpu().numpy()[:, :, ::-1].copy()
        for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
            cv2.putText(pixels, label, (4, 14), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA)
        cells.append(pixels)
    cells += [np.zeros_like(cells[0])] * (-len(cells) % across)
    lines = [np.hstack(cells[start : start + across]) for start in range(0, len(cells), across)]
    cv2.imwrite(str(path), np.vstack(lines), [cv2.IMWRITE_JPEG_QUALITY, 88])
