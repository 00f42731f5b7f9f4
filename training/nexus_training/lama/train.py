"""Train the compact LaMa: `python -m nexus_training.lama.train --photos FOLDER --out FOLDER`.

The correction of the pyramid's fill is trained on the lost pixels and their SSIM, the amplitude of the grain on spectra
and on the SSIM that the grain costs; a correction trained on spectra draws texture as a grid of dots.
Runs are seeded and resumable: the same command continues from the state in --out. On a CPU, start one single-threaded
process a core: `torchrun --nproc-per-node 2 -m nexus_training.lama.train --threads 1 ...`.
Writes to --out: state.pt, log.csv, sheet.jpg and lama_compact.safetensors (the moving average, ready for export).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from nexus_export.errors import BuildError
from torch import Tensor

from nexus_training.lama.crop_cache import CropCache
from nexus_training.lama.report import Report
from nexus_training.lama.schedule import Schedule
from nexus_training.lama.trainer import Trainer
from nexus_training.photos import load_photos
from nexus_training.runtime import DistributedContext

LOG_EVERY = 50
REPORT_SECONDS = 60
# Fields of the schedule that are options of the command line, besides length, sizes and seed.
OPTIONS = ("structure_share", "grain_share", "ssim_weight", "learning_rate")


def train(trainer: Trainer, save_minutes: float) -> None:
    """Train to the end of the schedule; log losses and figures, save every `save_minutes`."""
    last = saved = reported = time.monotonic()
    sums: dict[str, Tensor] = {}
    counted = 0
    while trainer.progress < 1.0:
        for name, value in trainer.train_step().items():
            sums[name] = sums[name] + value if name in sums else value
        counted += 1
        now = time.monotonic()
        trainer.trained_seconds = trainer.distributed.broadcast(trainer.trained_seconds + now - last)
        last = now
        if not trainer.distributed.is_main:
            continue
        if trainer.step % LOG_EVERY == 0:
            means = {name: float(total) / counted for name, total in sums.items()}
            with (trainer.out / "log.csv").open("a") as log:
                log.writelines(f"{trainer.step},{name},{mean:.6f}\n" for name, mean in means.items())
            pace = trainer.step / trainer.trained_seconds
            line = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
            print(f"step {trainer.step} ({trainer.progress:.1%})  {line}  {pace:.2f} steps/s", flush=True)
            sums, counted = {}, 0
        if now - reported > REPORT_SECONDS or trainer.progress >= 1.0:
            print(trainer.report.figures(trainer.report.fill(trainer.average.module)), flush=True)
            reported = now
        if now - saved > save_minutes * 60 or trainer.progress >= 1.0:
            trainer.save()
            saved = now


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--photos", type=Path, action="append", required=True, help="folder of photos; may be repeated"
    )
    parser.add_argument(
        "--validation",
        type=Path,
        action="append",
        help="folder of photos for figures and sheet, left out of --photos by name; default: --photos",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for state and weights; resumes")
    parser.add_argument("--weights", type=Path, help="a lama_compact.safetensors to start from")
    parser.add_argument("--steps", type=int, default=Schedule.steps)
    parser.add_argument(
        "--minutes", type=float, help="total training time, time before a resume included; replaces --steps"
    )
    parser.add_argument("--batch", type=int, default=Schedule.batch, help="crops a step and process")
    parser.add_argument("--crop", type=int, default=Schedule.crop, help="pixels, a multiple of 8")
    parser.add_argument("--cached-crops", type=int, default=4000, help="crops cut before the first step")
    for name in OPTIONS:
        default = getattr(Schedule, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help="see Schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="CPU threads; default: all")
    parser.add_argument("--save-minutes", type=float, default=2.0)
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Train as the command line says.

    Raises BuildError if there is no photo to train on.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    photos = load_photos(options.photos, excluding=options.validation or ())
    validation = load_photos(options.validation) if options.validation else photos
    distributed = DistributedContext()
    device = torch.device(options.device)
    schedule = Schedule(
        **{name: getattr(options, name) for name in ("steps", "minutes", "batch", "crop", "seed", *OPTIONS)}
    )
    crops = CropCache(photos, schedule.seed, options.cached_crops, schedule.crop, device)
    report = Report(validation, schedule.crop, device)
    trainer = Trainer(schedule, crops, report, options.out, device, distributed, options.weights)
    if distributed.is_main:
        print(
            f"{len(photos)} photos, {distributed.world_size} processes, from step {trainer.step}", flush=True
        )
    train(trainer, options.save_minutes)
    distributed.close()


if __name__ == "__main__":
    try:
        main(parse_arguments())
    except BuildError as error:
        sys.exit(str(error))
