"""Train the compact SDXL: `python -m nexus_training.sdxl.train --photos FOLDER --vocabulary FILE --out FOLDER`.

Three stages: the autoencoder, a minute of the text encoders alone, then text encoders and UNet together. The first and
the last take a number of minutes, or of steps. Runs are seeded and resumable: the same command continues from the
states in --out. Writes to --out: log.txt, autoencoder.pt, denoiser.pt, samples/*.jpg and, at every save of the last
stage, checkpoint/: the moving averages in FP16, in diffusers' format.

A run needs free photos, CLIP's published vocabulary, and some held-out photos (`photos.HELD_OUT`) to show its progress.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from nexus_export.errors import BuildError
from nexus_export.families.lama.checkpoint import read_compact
from nexus_export.paths import WEIGHTS
from torch import Tensor

from nexus_training.photos import load_held_out, load_photos
from nexus_training.sdxl.autoencoder import round_trip, train_autoencoder
from nexus_training.sdxl.denoiser import train_denoiser
from nexus_training.sdxl.latent_buffer import LatentBuffer
from nexus_training.sdxl.networks import Networks, build, latents, write_checkpoint
from nexus_training.sdxl.photo_crops import PhotoCrops
from nexus_training.sdxl.samples import (
    SHEET_PROMPTS,
    centre_square,
    inpaint,
    sheet_inputs,
    write_contact_sheet,
)
from nexus_training.sdxl.stage import RunSettings
from nexus_training.sdxl.text import train_text
from nexus_training.sdxl.tokenizer import Vocabulary

# The compact LaMa that is shipped: it fills the mask where the prompt is empty.
LAMA_WEIGHTS = WEIGHTS / "lama_compact.safetensors"
TEXT_STEPS, TEXT_BATCH = 400, 64
# Peak learning rates of Muon.
RATE_VAE, RATE_UNET = 4e-3, 3e-3


def train(arguments: argparse.Namespace) -> None:
    """Run all three stages.

    Raises BuildError if there is no photo to train on or no held-out one to show.
    """
    out: Path = arguments.out
    (out / "samples").mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    started = time.monotonic()

    def log(line: str) -> None:
        line = f"[{time.monotonic() - started:6.1f}s] {line}"
        print(line, flush=True)
        with (out / "log.txt").open("a") as file:
            file.write(line + "\n")

    photos = PhotoCrops(load_photos(arguments.photos), device)
    held_out = load_held_out([*arguments.photos, *arguments.held_out])
    vocabulary = Vocabulary(arguments.vocabulary)
    networks = build(arguments.seed)
    log(f"{photos.tiles} photo tiles, {len(held_out)} photos held out, on {device}")
    settings = RunSettings(
        out=out,
        minutes=arguments.minutes_vae,
        steps=arguments.steps,
        batch=arguments.batch_vae,
        rate=RATE_VAE,
        seed=arguments.seed,
        save_seconds=arguments.save_seconds,
        log=log,
    )
    squares = np.stack([centre_square(photo) for photo in held_out])
    tests = torch.from_numpy(squares).to(device).permute(0, 3, 1, 2).float() / 255

    def show_autoencoder(vae: AutoencoderKL) -> None:
        rebuilt, decibels = round_trip(vae, tests)
        labels = [f"{value:.1f} dB" for value in decibels]
        log("round trip of held-out photos: " + ", ".join(labels))
        write_contact_sheet(out / "samples" / "autoencoder.jpg", [tests, rebuilt], labels)

    networks.vae = train_autoencoder(networks.vae, photos, settings, show_autoencoder)
    images, masks = sheet_inputs(held_out, device)

    def show(averaged: Networks, step: int) -> None:
        write_checkpoint(averaged, vocabulary, out / "checkpoint")
        painted = inpaint(averaged, vocabulary, images, masks, SHEET_PROMPTS)
        columns = [images * (1 - 0.6 * masks), painted]
        write_contact_sheet(out / "samples" / f"{step:06d}.jpg", columns, SHEET_PROMPTS, across=3)
        log(f"saved at step {step}")

    def encode(pictures: Tensor) -> Tensor:
        scaled: Tensor = latents(networks.vae, pictures).float() * networks.vae.config.scaling_factor
        return scaled

    if not (out / "denoiser.pt").exists():
        steps = arguments.steps or TEXT_STEPS
        train_text(networks, vocabulary, device, steps=steps, batch=TEXT_BATCH, seed=arguments.seed, log=log)

    lama = read_compact(LAMA_WEIGHTS).to(device)

    def make_buffer(side: int, step: int) -> LatentBuffer:
        return LatentBuffer(
            photos,
            encode,
            vocabulary,
            lama,
            side=side,
            size=arguments.buffer,
            fresh=arguments.fresh,
            seed=(arguments.seed, side, step),
        )

    settings = replace(settings, minutes=arguments.minutes_unet, batch=arguments.batch_unet, rate=RATE_UNET)
    train_denoiser(networks, make_buffer, device, settings, show)
    if device.type == "cuda":
        log(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of free photos")
    parser.add_argument(
        "--held-out", type=Path, nargs="*", default=[], help="more folders with held-out photos"
    )
    parser.add_argument("--vocabulary", type=Path, required=True, help="CLIP's bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes-vae", type=float, default=5.0)
    parser.add_argument("--minutes-unet", type=float, default=13.0)
    parser.add_argument("--steps", type=int, help="steps of each stage, instead of minutes")
    parser.add_argument("--batch-vae", type=int, default=16)
    parser.add_argument("--batch-unet", type=int, default=32)
    parser.add_argument("--fresh", type=float, default=4, help="new examples a step of the UNet")
    parser.add_argument("--buffer", type=int, default=16384, help="examples kept as latents")
    parser.add_argument("--save-seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        train(parse_arguments())
    except BuildError as error:
        sys.exit(str(error))
