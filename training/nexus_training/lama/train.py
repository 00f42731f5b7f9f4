"""Train the compact LaMa: `python -m nexus_training.lama.train --photos FOLDER --out FOLDER`.

The correction of the pyramid's fill is trained on the lost pixels and their SSIM, the amplitude of the grain on spectra
and on the SSIM that the grain costs; a correction trained on spectra draws texture as a grid of dots. With
--adversarial-from, a patch discriminator of correction and grain together joins.
Runs are seeded and resumable: the same command continues from the state in --out. On a CPU, start one single-threaded
process a core: `torchrun --nproc-per-node 2 -m nexus_training.lama.train --threads 1 ...`.
Writes to --out: state.pt, log.csv, sheet.jpg, lama_compact.safetensors (the moving average, ready for export) and, if a
discriminator joins, lama_reconstruction.safetensors (the moving average just before that).
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from nexus_export.errors import BuildError
from nexus_export.lama.checkpoint import read_compact, write_compact
from nexus_export.lama.generator import OUT_CHANNELS, RESIDUAL_SCALE, Generator
from nexus_export.lama.grain import SIDE, grain, tile
from nexus_export.lama.network import COMPACT_CONFIG
from nexus_export.lama.pyramid import pyramid_fill
from torch import Tensor

from nexus_training.lama.adversarial import AdversarialLoss
from nexus_training.lama.crop_cache import CropCache
from nexus_training.lama.losses import GradientBalance, reconstruction_loss, ssim_loss
from nexus_training.lama.report import Report
from nexus_training.lama.schedule import Schedule
from nexus_training.lama.spectrum import spectral_loss
from nexus_training.muon import Muon
from nexus_training.photos import load_photos
from nexus_training.runtime import DistributedContext, MovingAverage, load, save

STATE = "state.pt"
LOG_EVERY = 50
REPORT_SECONDS = 60
# Of each noise band, in units of the picture; at zero, a loss of power has no gradient.
INITIAL_AMPLITUDE = 0.001
# Fields of the schedule that are options of the command line, besides length, sizes and seed.
OPTIONS = (
    "adversarial_from",
    "adversarial_share",
    "matching_share",
    "structure_share",
    "grain_share",
    "ssim_weight",
    "learning_rate",
)


class Trainer:
    """One run: networks, optimisers and their data."""

    def __init__(
        self,
        schedule: Schedule,
        crops: CropCache,
        report: Report,
        out: Path,
        device: torch.device,
        distributed: DistributedContext,
        weights: Path | None = None,
    ) -> None:
        """A new run starts from `weights` (a file of `write_compact`), by default from random ones."""
        torch.manual_seed(schedule.seed)
        self.schedule, self.crops, self.report, self.out = schedule, crops, report, out
        self.device, self.distributed = device, distributed
        # Convolutions on channels-last tensors are about twice as fast, on CPUs and GPUs alike.
        self.generator = Generator(COMPACT_CONFIG).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.adversary = AdversarialLoss(schedule, device, distributed)
        # Trainable norms learn to shut every ReLU of the decoder, the quickest way to remove the noise of early steps,
        # and never recover. The last layer's weights can silence the decoder too, but still get gradients.
        for module in self.generator.model:
            if isinstance(module, torch.nn.BatchNorm2d):
                module.requires_grad_(False)
        # With a zero last layer training starts at the pyramid's fill, with an invisible grain.
        torch.nn.init.zeros_(self.generator.model[-1].weight)
        torch.nn.init.zeros_(self.generator.model[-1].bias)
        self.generator.model[-1].bias.data[OUT_CHANNELS:] = INITIAL_AMPLITUDE / RESIDUAL_SCALE
        if weights is not None:
            self.generator.load_state_dict(read_compact(weights).state_dict())
        outer = ("model.1.", f"model.{len(self.generator.model) - 1}.")
        self.generator_optimiser = Muon(self.generator, outer)
        self.average = MovingAverage(self.generator, schedule.averaging_decay)
        self.balance = GradientBalance()
        self.step = 0
        self.trained_seconds = 0.0
        state = load(out / STATE, device)
        if state is not None:
            self.generator.load_state_dict(state["generator"])
            self.adversary.load_state_dict(state["judge"])
            self.generator_optimiser.load_state_dict(state["generator_optimiser"])
            self.average.module.load_state_dict(state["average"])
            self.balance.norms = state["gradient_norms"]
            self.step, self.trained_seconds = state["step"], state["trained_seconds"]

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1."""
        return self.schedule.progress(self.step, self.trained_seconds)

    def save(self) -> None:
        """Write the state, the exportable weights and a contact sheet."""
        save(
            self.out / STATE,
            {
                "generator": self.generator.state_dict(),
                # The key of earlier states, which stay resumable.
                "judge": self.adversary.state_dict(),
                "generator_optimiser": self.generator_optimiser.state_dict(),
                "average": self.average.module.state_dict(),
                "gradient_norms": self.balance.norms,
                "step": self.step,
                "trained_seconds": self.trained_seconds,
            },
        )
        averaged = self.average.module
        write_compact(averaged, self.out / "lama_compact.safetensors")
        self.report.write_sheet(self.report.fill(averaged), self.out / "sheet.jpg")

    def train_step(self) -> dict[str, Tensor]:
        """Train the generator one step, and the discriminator once it has joined; return the losses."""
        schedule, progress = self.schedule, self.progress
        sample = self.step * self.distributed.world_size + self.distributed.rank
        image, mask = self.crops.batch(sample, schedule.batch)
        # Random shifts: fixed noise would be a map of the crop that the generator could memorise.
        shifts = np.random.default_rng((schedule.seed, sample)).integers(SIDE, size=(len(mask), 2)).tolist()
        noise = torch.cat([tile(self.device).roll(shift, (2, 3)) for shift in shifts])
        self.generator.train(progress < schedule.train_norms_until)
        smooth = pyramid_fill(image, mask)
        # BF16 convolutions are twice as fast where the hardware has them, and keep FP32's range.
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.generator(torch.cat([smooth, mask], dim=1))
        leaf = output.detach().float().requires_grad_()
        corrected, textured = smooth + leaf[:, :OUT_CHANNELS], grain(leaf[:, OUT_CHANNELS:], noise)

        def composite(painted: Tensor) -> Tensor:
            return image * (1.0 - mask) + painted * mask

        whole = composite(corrected.detach() + textured)
        losses = {
            "reconstruction": reconstruction_loss(corrected, image, mask),
            "structure": ssim_loss(composite(corrected), image, mask),
            "grain": spectral_loss(whole, image, mask) + schedule.ssim_weight * ssim_loss(whole, image, mask),
        }
        logged: dict[str, Tensor] = {}
        weight = schedule.adversarial_weight(progress)
        if weight > 0.0:
            if "adversarial" not in self.balance.norms and self.distributed.is_main:
                write_compact(self.average.module, self.out / "lama_reconstruction.safetensors")
            whole = composite(corrected + textured)
            logged["discriminator"] = self.adversary.train_step(self.step, image, whole.detach(), mask)
            losses |= self.adversary.losses(image, whole, mask)
        shares = {
            "structure": schedule.structure_share,
            "grain": schedule.grain_share,
            "adversarial": weight * schedule.adversarial_share,
            "matching": weight * schedule.matching_share,
        }
        gradient = self.balance.combine(losses, shares, leaf)
        output.backward(gradient.to(output.dtype))
        self.distributed.average_gradients(self.generator)
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        rate = schedule.learning_rate_at(self.step, progress)
        self.generator_optimiser.step(rate, rate / 2)
        self.average.update(self.step)
        self.step += 1
        return logged | {name: loss.detach() for name, loss in losses.items()}


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
