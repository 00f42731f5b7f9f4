"""Train the compact LaMa: `python -m nexus_training.lama.train --photos FOLDER --out FOLDER`.

The correction of the pyramid's fill learns from the lost pixels and their SSIM, the loudness of the grain from spectra
and from the SSIM that it costs: a correction that is paid for texture draws it as a grid of dots. By default nothing
else; with --adversarial-from a patch discriminator joins that judges both together.
Seeded, and resumable: the same command goes on from the state in --out. On a processor, start one
single-threaded worker a core: `torchrun --nproc-per-node 2 -m nexus_training.lama.train --threads 1 ...`.
Writes to --out: state.pt, log.csv, sheet.jpg, lama_compact.safetensors (the moving average, ready for
export) and, where a discriminator joins, lama_reconstruction.safetensors (the same, just before).
"""

import argparse
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

from nexus_training.lama.adversarial import Judge
from nexus_training.lama.crop_cache import Bank
from nexus_training.lama.losses import GradientBalance, reconstruction, structure
from nexus_training.lama.report import Report
from nexus_training.lama.schedule import Schedule
from nexus_training.lama.spectrum import spectral
from nexus_training.muon import Muon
from nexus_training.photos import load_photos
from nexus_training.runtime import MovingAverage, Workers, load, save

STATE = "state.pt"
STEPS_A_LINE = 50
REPORT_SECONDS = 60
# Of each band of noise, in units of the picture: at none, a loss of power has no gradient.
FIRST_LOUDNESS = 0.001
# Fields of the schedule that the command line sets, besides a run's length, its sizes and its seed.
SHARES = (
    "adversarial_from",
    "adversarial_share",
    "matching_share",
    "structure_share",
    "grain_share",
    "quiet",
    "learning_rate",
)


class Trainer:
    """One run: networks, optimisers and the data they see."""

    def __init__(
        self,
        schedule: Schedule,
        bank: Bank,
        report: Report,
        out: Path,
        device: torch.device,
        workers: Workers,
        weights: Path | None = None,
    ) -> None:
        """`weights`, as `write_compact` wrote them, are what a run begins from; else from random ones."""
        torch.manual_seed(schedule.seed)
        self.schedule, self.bank, self.report, self.out = schedule, bank, report, out
        self.device, self.workers = device, workers
        # Convolutions on channels-last tensors are about twice as fast, on processors and GPUs alike.
        self.generator = Generator(COMPACT_CONFIG).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.judge = Judge(schedule, device, workers)
        # Else the decoder's norms learn to keep every ReLU shut: silence is the quickest way to be rid of
        # the noise of early steps, and a way without return. The last layer's weights can silence it too,
        # but still get gradients.
        for module in self.generator.model:
            if isinstance(module, torch.nn.BatchNorm2d):
                module.requires_grad_(False)
        # A zero last layer starts training at the pyramid fill, with a grain too faint to see.
        torch.nn.init.zeros_(self.generator.model[-1].weight)
        torch.nn.init.zeros_(self.generator.model[-1].bias)
        self.generator.model[-1].bias.data[OUT_CHANNELS:] = FIRST_LOUDNESS / RESIDUAL_SCALE
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
            self.judge.load_state_dict(state["judge"])
            self.generator_optimiser.load_state_dict(state["generator_optimiser"])
            self.average.module.load_state_dict(state["average"])
            self.balance.norms = state["gradient_norms"]
            self.step, self.trained_seconds = state["step"], state["trained_seconds"]

    @property
    def done(self) -> float:
        """Share of the run that lies behind."""
        return self.schedule.done(self.step, self.trained_seconds)

    def save(self) -> None:
        """Write the state, the exportable weights and a sheet of samples."""
        save(
            self.out / STATE,
            {
                "generator": self.generator.state_dict(),
                "judge": self.judge.state_dict(),
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
        """One step of the generator, and of the discriminator once it has joined. Returns the losses."""
        schedule, done = self.schedule, self.done
        drawn = self.step * self.workers.count + self.workers.rank
        image, mask = self.bank.batch(drawn, schedule.batch)
        # Shifted anew at every step: always the same, it would be a map of the crop to learn by heart.
        shifts = np.random.default_rng((schedule.seed, drawn)).integers(SIDE, size=(len(mask), 2)).tolist()
        noise = torch.cat([tile(self.device).roll(shift, (2, 3)) for shift in shifts])
        self.generator.train(done < schedule.norms_until)
        smooth = pyramid_fill(image, mask)
        # Convolutions in BF16: twice the speed where the hardware has it, with FP32's range.
        with torch.autocast(self.device.type, torch.bfloat16):
            output = self.generator(torch.cat([smooth, mask], dim=1))
        leaf = output.detach().float().requires_grad_()
        faithful, grains = smooth + leaf[:, :OUT_CHANNELS], grain(leaf[:, OUT_CHANNELS:], noise)

        def composite(painted: Tensor) -> Tensor:
            return image * (1.0 - mask) + painted * mask

        whole = composite(faithful.detach() + grains)
        losses = {
            "reconstruction": reconstruction(faithful, image, mask),
            "structure": structure(composite(faithful), image, mask),
            "grain": spectral(whole, image, mask) + schedule.quiet * structure(whole, image, mask),
        }
        told: dict[str, Tensor] = {}
        weight = schedule.adversarial(done)
        if weight > 0.0:
            if "adversarial" not in self.balance.norms and self.workers.is_first:
                write_compact(self.average.module, self.out / "lama_reconstruction.safetensors")
            whole = composite(faithful + grains)
            told["discriminator"] = self.judge.train_step(self.step, image, whole.detach(), mask)
            losses |= self.judge.losses(image, whole, mask)
        shares = {
            "structure": schedule.structure_share,
            "grain": schedule.grain_share,
            "adversarial": weight * schedule.adversarial_share,
            "matching": weight * schedule.matching_share,
        }
        gradient = self.balance.combine(losses, shares, leaf)
        output.backward(gradient.to(output.dtype))
        self.workers.average_gradients(self.generator)
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        rate = schedule.rate(self.step, done)
        self.generator_optimiser.step(rate, rate / 2)
        self.average.update(self.step)
        self.step += 1
        return told | {name: loss.detach() for name, loss in losses.items()}


def train(trainer: Trainer, save_minutes: float) -> None:
    """Run to the schedule's end, printing losses and figures now and then, saving every `save_minutes`."""
    last = saved = reported = time.monotonic()
    sums: dict[str, Tensor] = {}
    counted = 0
    while trainer.done < 1.0:
        for name, value in trainer.train_step().items():
            sums[name] = sums[name] + value if name in sums else value
        counted += 1
        now = time.monotonic()
        trainer.trained_seconds = trainer.workers.agreed(trainer.trained_seconds + now - last)
        last = now
        if not trainer.workers.is_first:
            continue
        if trainer.step % STEPS_A_LINE == 0:
            means = {name: float(total) / counted for name, total in sums.items()}
            with (trainer.out / "log.csv").open("a") as log:
                log.writelines(f"{trainer.step},{name},{mean:.6f}\n" for name, mean in means.items())
            pace = trainer.step / trainer.trained_seconds
            line = "  ".join(f"{name} {mean:.4f}" for name, mean in means.items())
            print(f"step {trainer.step} ({trainer.done:.1%})  {line}  {pace:.2f} steps/s", flush=True)
            sums, counted = {}, 0
        if now - reported > REPORT_SECONDS or trainer.done >= 1.0:
            print(trainer.report.figures(trainer.report.fill(trainer.average.module)), flush=True)
            reported = now
        if now - saved > save_minutes * 60 or trainer.done >= 1.0:
            trainer.save()
            saved = now


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m nexus_training.lama.train", description="Train the compact LaMa."
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
    parser.add_argument("--weights", type=Path, help="a lama_compact.safetensors to begin from")
    parser.add_argument("--steps", type=int, default=Schedule.steps)
    parser.add_argument(
        "--minutes", type=float, help="of training, all resumed parts together; replaces --steps"
    )
    parser.add_argument("--batch", type=int, default=Schedule.batch, help="crops a step of each worker")
    parser.add_argument("--crop", type=int, default=Schedule.crop, help="pixels, a multiple of 8")
    parser.add_argument("--bank", type=int, default=4000, help="crops cut before the first step")
    for name in SHARES:
        default = getattr(Schedule, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=default, help="see Schedule")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="processor threads; default: all")
    parser.add_argument("--save-minutes", type=float, default=2.0)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.backends.cudnn.benchmark = True
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        photos = load_photos(options.photos, besides=options.validation or ())
        shown = load_photos(options.validation) if options.validation else photos
    except BuildError as error:
        parser.error(str(error))
    workers = Workers()
    device = torch.device(options.device)
    schedule = Schedule(
        **{name: getattr(options, name) for name in ("steps", "minutes", "batch", "crop", "seed", *SHARES)}
    )
    bank = Bank(photos, schedule.seed, options.bank, schedule.crop, device)
    report = Report(shown, schedule.crop, device)
    trainer = Trainer(schedule, bank, report, options.out, device, workers, options.weights)
    if workers.is_first:
        print(f"{len(photos)} photos, {workers.count} workers, from step {trainer.step}", flush=True)
    train(trainer, options.save_minutes)
    workers.close()


if __name__ == "__main__":
    main()
