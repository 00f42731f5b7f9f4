"""Train the compact SDXL: `python -m nexus_training.sdxl.train --photos FOLDER --vocabulary FILE --out FOLDER`.

First the autoencoder, then the text encoders for a minute alone, then these and the UNet together; each for so many
minutes, or steps. Seeded, and resumable: the same command goes on from the states in --out. Writes to --out: log.txt,
autoencoder.pt, denoiser.pt, samples/*.jpg and, at every save of the last stage, checkpoint/: the moving averages in
FP16, in diffusers' format.

A run needs free photos, some of them held out (`photos.HELD_OUT`) to show what it comes to, and CLIP's published
vocabulary. How the weights of this package were trained, their card in MODELS.md tells.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from nexus_export.errors import BuildError
from nexus_export.lama.checkpoint import read_compact
from nexus_export.paths import WEIGHTS
from torch import Tensor

from nexus_training.photos import load_held_out, load_photos
from nexus_training.sdxl.autoencoder import round_trip, train_autoencoder
from nexus_training.sdxl.denoiser import train_denoiser
from nexus_training.sdxl.latent_buffer import Pool
from nexus_training.sdxl.networks import Networks, build, latents, write_checkpoint
from nexus_training.sdxl.photo_crops import PhotoCrops
from nexus_training.sdxl.samples import SHEET_PROMPTS, paint, sheet_inputs, square, write_sheet
from nexus_training.sdxl.text import train_text
from nexus_training.sdxl.tokenizer import Vocabulary

TEXT_STEPS = 400


def train(arguments: argparse.Namespace) -> None:
    """All three stages, as the command line says.

    Raises:
        BuildError: there is no photo to train on, or none held out to show.
    """
    out: Path = arguments.out
    (out / "samples").mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    started = time.monotonic()

    def report(line: str) -> None:
        line = f"[{time.monotonic() - started:6.1f}s] {line}"
        print(line, flush=True)
        with (out / "log.txt").open("a") as log:
            log.write(line + "\n")

    photos = PhotoCrops(load_photos(arguments.photos), device)
    held_out = load_held_out([*arguments.photos, *arguments.held_out])
    vocabulary = Vocabulary(arguments.vocabulary)
    networks = build(arguments.seed)
    report(f"{photos.tiles} photo tiles, {len(held_out)} photos held out, on {device}")
    shared = {
        "out": out,
        "steps": arguments.steps,
        "seed": arguments.seed,
        "save_seconds": arguments.save_seconds,
        "report": report,
    }
    squares = np.stack([square(photo) for photo in held_out])
    tests = torch.from_numpy(squares).to(device).permute(0, 3, 1, 2).float() / 255

    def show_autoencoder(vae: AutoencoderKL) -> None:
        rebuilt, decibels = round_trip(vae, tests)
        labels = [f"{value:.1f} dB" for value in decibels]
        report("round trip of held-out photos: " + ", ".join(labels))
        write_sheet(out / "samples" / "autoencoder.jpg", [tests, rebuilt], labels)

    networks.vae = train_autoencoder(
        networks.vae,
        photos,
        minutes=arguments.minutes_vae,
        batch=arguments.batch_vae,
        rate=arguments.rate_vae,
        show=show_autoencoder,
        **shared,
    )
    images, masks = sheet_inputs(held_out, device)

    def show(averaged: Networks, step: int) -> None:
        write_checkpoint(averaged, vocabulary, out / "checkpoint")
        painted = paint(averaged, vocabulary, images, masks, SHEET_PROMPTS)
        columns = [images * (1 - 0.6 * masks), painted]
        write_sheet(out / "samples" / f"{step:06d}.jpg", columns, SHEET_PROMPTS, across=3)
        report(f"saved at step {step}")

    def encode(pictures: Tensor) -> Tensor:
        scaled: Tensor = latents(networks.vae, pictures).float() * networks.vae.config.scaling_factor
        return scaled

    if not (out / "denoiser.pt").exists():
        train_text(
            networks,
            vocabulary,
            device,
            steps=arguments.steps or TEXT_STEPS,
            batch=64,
            seed=arguments.seed,
            report=report,
        )

    lama = read_compact(WEIGHTS / "lama_compact.safetensors").to(device)

    def make_pool(side: int, step: int) -> Pool:
        return Pool(
            photos,
            torch.compile(encode) if arguments.compile else encode,
            vocabulary,
            lama,
            side=side,
            size=arguments.pool,
            fresh=arguments.fresh,
            seed=(arguments.seed, side, step),
        )

    train_denoiser(
        networks,
        make_pool,
        device,
        minutes=arguments.minutes_unet,
        batch=arguments.batch_unet,
        rate=arguments.rate_unet,
        show=show,
        compiled=arguments.compile,
        **shared,
    )
    if device.type == "cuda":
        report(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of free photos")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help="more folders to test on")
    parser.add_argument("--vocabulary", type=Path, required=True, help="CLIP's bpe_simple_vocab_16e6.txt.gz")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes-vae", type=float, default=5.0)
    parser.add_argument("--minutes-unet", type=float, default=13.0)
    parser.add_argument("--steps", type=int, help="steps of each stage, instead of minutes")
    parser.add_argument("--batch-vae", type=int, default=16)
    parser.add_argument("--batch-unet", type=int, default=32)
    parser.add_argument("--fresh", type=float, default=4, help="new examples a step of the UNet")
    parser.add_argument("--pool", type=int, default=16384, help="examples kept as latents")
    parser.add_argument("--rate-vae", type=float, default=4e-3)
    parser.add_argument("--rate-unet", type=float, default=3e-3)
    parser.add_argument("--save-seconds", type=float, default=120.0)
    parser.add_argument("--compile", action="store_true", help="torch.compile: a minute first, then faster")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    try:
        train(parse())
    except BuildError as error:
        sys.exit(str(error))
