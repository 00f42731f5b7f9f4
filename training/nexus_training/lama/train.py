"""Train the compact LaMa: `python -m nexus_training.lama.train --photos FOLDER --out FOLDER`.

The correction of the pyramid's fill is trained on the lost pixels and their SSIM, the amplitude of the grain on spectra
and on the SSIM that the grain costs; a correction trained on spectra draws texture as a grid of dots.
Runs are seeded and resumable: the same command continues from the state in --out.
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

LOG_EVERY = 50
REPORT_SECONDS = 60
# Fields of the schedule that are options of the command line.
OPTIONS = ("minutes", "steps", "batch", "crop", "seed", "learning_rate")


def train(trainer: Trainer, save_minutes: float) -> None:
    """Train to the end of the schedule; log losses and figures, save every `save_minutes`."""
    saved = reported = time.monotonic()
    sums: dict[str, Tensor] = {}
    counted = 0
    while trainer.progress < 1.0:
        for name, value in trainer.train_step().items():
            sums[name] = sums[name] + value if name in sums else value
        counted += 1
        now = time.monotonic()
        if trainer.step % LOG_EVERY == 0:
            means = {name: float(total) / counted for name, total in sums.items()}
            with (trainer.out / "log.csv").open("a") as log:
                log.writelines(f"{trainer.step},{name},{mean:.6f}\n" for name, mean in means.items())
            pace = trainer.step / trainer.budget.spent_seconds
            line = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
            print(f"step {trainer.step} ({trainer.progress:.1%})  {line}  {pace:.2f} steps/s", flush=True)
            sums, counted = {}, 0
        if now - reported > REPORT_SECONDS:
            print_figures(trainer)
            reported = now
        if now - saved > save_minutes * 60:
            trainer.save()
            saved = now
    print_figures(trainer)
    trainer.save()


def print_figures(trainer: Trainer) -> None:
    """Print the figures of the moving average."""
    print(trainer.report.figures(trainer.report.fill(trainer.average.module)), flush=True)


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
    parser.add_argument(
        "--minutes", type=float, default=Schedule.minutes, help="in all, time before a resume included"
    )
    parser.add_argument("--steps", type=int, help="of the run, instead of minutes")
    parser.add_argument("--batch", type=int, default=Schedule.batch, help="crops a step")
    parser.add_argument("--crop", type=int, default=Schedule.crop, help="pixels, a multiple of 8")
    parser.add_argument("--cached-crops", type=int, default=4000, help="crops cut before the first step")
    parser.add_argument("--learning-rate", type=float, default=Schedule.learning_rate, help="Muon's peak")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--save-minutes", type=float, default=2.0)
    return parser.parse_args(arguments)


def main(options: argparse.Namespace) -> None:
    """Train as the command line says.

    Raises BuildError if there is no photo to train on.
    """
    torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    photos = load_photos(options.photos, excluding=options.validation or ())
    validation = load_photos(options.validation) if options.validation else photos
    device = torch.device(options.device)
    schedule = Schedule(**{name: getattr(options, name) for name in OPTIONS})
    crops = CropCache(photos, schedule.seed, options.cached_crops, schedule.crop, device)
    report = Report(validation, schedule.crop, device)
    trainer = Trainer(schedule, crops, report, options.out, device, options.weights)
    print(f"{len(photos)} photos, from step {trainer.step}", flush=True)
    train(trainer, options.save_minutes)


if __name__ == "__main__":
    try:
        main(parse_arguments())
    except BuildError as error:
        sys.exit(str(error))
