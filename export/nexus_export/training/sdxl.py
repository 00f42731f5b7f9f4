"""Train the compact SDXL: ``python -m nexus_export.training.sdxl --photos FOLDER --vocabulary FILE --out FOLDER``.

First the autoencoder, then text encoders and UNet together; each stage for so many minutes, or steps. Seeded, and
resumable: the same command goes on from the states in --out. Writes to --out: log.txt, autoencoder.pt, denoiser.pt,
samples/*.jpg, sdxl-*.safetensors (the moving averages in FP16) and checkpoint/, the same in diffusers' format.
"""

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from nexus_export.training.lama_photos import DEMO_NAMES, HELD_OUT, SUFFIXES, load_photos
from nexus_export.training.sdxl_autoencoder import round_trip_decibels, train_autoencoder
from nexus_export.training.sdxl_denoiser import train_denoiser
from nexus_export.training.sdxl_networks import Networks, build, latents, write_checkpoint, write_shards
from nexus_export.training.sdxl_photos import PhotoCrops
from nexus_export.training.sdxl_pool import Pool
from nexus_export.training.sdxl_samples import SHEET_PROMPTS, paint, sheet_inputs, square, write_sheet
from nexus_export.training.sdxl_tokenizer import Vocabulary


def load_held_out(folders: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """The photos that are never trained on, for sample sheets and figures; RGB."""
    paths = sorted(
        path for folder in folders for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES
    )
    photos = {}
    for path in paths:
        if path.stem in HELD_OUT + DEMO_NAMES:
            # The same photo may lie in several folders.
            photos[path.stem] = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB).astype(np.uint8)
    return list(photos.values())


def train(arguments: argparse.Namespace) -> None:
    """Both stages, as the command line says."""
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
        "compiled": arguments.compile,
        "report": report,
    }
    networks.vae = train_autoencoder(
        networks.vae,
        photos,
        minutes=arguments.minutes_vae,
        batch=arguments.batch_vae,
        rate=arguments.rate_vae,
        **shared,
    )
    squares = np.stack([square(photo) for photo in held_out])
    tests = torch.from_numpy(squares).to(device).permute(0, 3, 1, 2).float() / 255
    decibels = round_trip_decibels(networks.vae, tests)
    report("round trip of held-out photos: " + " ".join(f"{value:.1f}" for value in decibels) + " dB")
    rebuilt = torch.cat([networks.vae.decode(latents(networks.vae, test[None])).sample for test in tests])
    write_sheet(
        out / "samples" / "autoencoder.jpg", [tests, (rebuilt / 2 + 0.5)], [f"{d:.1f} dB" for d in decibels]
    )

    images, masks = sheet_inputs(held_out, device)

    def show(averaged: Networks, step: int) -> None:
        painted = paint(averaged, vocabulary, images, masks, SHEET_PROMPTS)
        write_sheet(
            out / "samples" / f"{step:06d}.jpg",
            [images * (1 - 0.6 * masks), painted],
            SHEET_PROMPTS,
            across=3,
        )
        write_shards(averaged, out)
        report(f"saved at step {step}")

    scale = networks.vae.config.scaling_factor
    pool = Pool(photos, networks.vae, scale, vocabulary, arguments.pool, arguments.seed)
    if arguments.compile:
        pool.encode = torch.compile(pool.encode)
    train_denoiser(
        networks,
        pool,
        minutes=arguments.minutes_unet,
        batch=arguments.batch_unet,
        fresh=arguments.fresh,
        rate=arguments.rate_unet,
        show=show,
        **shared,
    )
    write_checkpoint(copy.deepcopy(networks), vocabulary, out / "checkpoint")
    if device.type == "cuda":
        report(f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, nargs="+", required=True, help="folders of free photos")
    parser.add_argument("--held-out", type=Path, nargs="*", default=[], help="more folders to test on")
    parser.add_argument("--vocabulary", type=Path, required=True, help="CLIP's merges (.txt or .txt.gz)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes-vae", type=float, default=5.0)
    parser.add_argument("--minutes-unet", type=float, default=13.0)
    parser.add_argument("--steps", type=int, help="steps of each stage, instead of minutes")
    parser.add_argument("--batch-vae", type=int, default=16)
    parser.add_argument("--batch-unet", type=int, default=256)
    parser.add_argument("--fresh", type=int, default=64, help="new examples a step of the second stage")
    parser.add_argument("--pool", type=int, default=65536, help="examples kept as latents")
    parser.add_argument("--rate-vae", type=float, default=6e-4)
    parser.add_argument("--rate-unet", type=float, default=6e-4)
    parser.add_argument("--save-seconds", type=float, default=120.0)
    parser.add_argument("--compile", action="store_true", help="torch.compile: a minute first, then faster")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    train(parse())
