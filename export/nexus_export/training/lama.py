"""Train the compact LaMa: ``python -m nexus_export.training.lama --photos FOLDER --out FOLDER``.

The first part of a run is reconstruction alone; then the patch discriminator joins. Seeded, and resumable:
the same command goes on from the state in --out. On a processor, start one single-threaded worker a core:
``torchrun --nproc-per-node 2 -m nexus_export.training.lama --threads 1 ...``. Writes to --out: state.pt,
log.csv, samples/*.png and lama_compact.safetensors (the moving average, ready for export).
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nexus_export.errors import BuildError
from nexus_export.lama import COMPACT_CONFIG, Generator, complete, write_compact
from nexus_export.training.lama_losses import (
    PatchDiscriminator,
    discriminator_loss,
    feature_matching,
    generator_adversarial,
    gradient_penalty,
    reconstruction,
)
from nexus_export.training.lama_photos import Photo, load_photos, random_batch
from nexus_export.training.lama_schedule import Schedule
from nexus_export.training.lama_state import MovingAverage, load_state, save_state
from nexus_export.training.lama_workers import Workers


class Trainer:
    """One run: networks, optimisers and the data they see."""

    def __init__(
        self, schedule: Schedule, photos: Sequence[Photo], out: Path, device: torch.device, workers: Workers
    ) -> None:
        torch.manual_seed(schedule.seed)
        self.schedule, self.photos, self.out, self.device = schedule, photos, out, device
        self.workers = workers
        # Convolutions on channels-last tensors are about twice as fast, on processors and GPUs alike.
        self.generator = Generator(COMPACT_CONFIG).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.discriminator = PatchDiscriminator().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Else the decoder's norms learn to keep every ReLU shut: silence is the quickest way to be rid of
        # the noise of early steps, and a way without return. The last layer's weights can silence it too,
        # but still get gradients.
        for module in self.generator.model:
            if isinstance(module, torch.nn.BatchNorm2d):
                module.requires_grad_(False)
        # A zero last layer starts training at the pyramid fill itself.
        torch.nn.init.zeros_(self.generator.model[-1].weight)
        torch.nn.init.zeros_(self.generator.model[-1].bias)
        self.generator_optimiser = torch.optim.Adam(self.generator.parameters(), betas=(0.9, 0.99))
        self.discriminator_optimiser = torch.optim.Adam(
            self.discriminator.parameters(), lr=schedule.discriminator_learning_rate, betas=(0.0, 0.99)
        )
        self.average = MovingAverage(self.generator, schedule.averaging_decay)
        self.step = 0
        state = load_state(out, device)
        if state is not None:
            self.generator.load_state_dict(state["generator"])
            self.discriminator.load_state_dict(state["discriminator"])
            self.generator_optimiser.load_state_dict(state["generator_optimiser"])
            self.discriminator_optimiser.load_state_dict(state["discriminator_optimiser"])
            self.average.state = state["average"]
            self.step = state["step"]

    def save(self) -> None:
        """Write the state, the exportable weights and a sample sheet."""
        save_state(
            self.out,
            {
                "generator": self.generator.state_dict(),
                "discriminator": self.discriminator.state_dict(),
                "generator_optimiser": self.generator_optimiser.state_dict(),
                "discriminator_optimiser": self.discriminator_optimiser.state_dict(),
                "average": self.average.state,
                "step": self.step,
            },
        )
        averaged = Generator(COMPACT_CONFIG)
        averaged.load_state_dict(self.average.state)
        write_compact(averaged, self.out / "lama_compact.safetensors")
        self._write_samples(averaged.to(self.device).eval())

    def train_step(self) -> dict[str, float]:
        """One step of the generator, and of the discriminator once it has joined. Returns the losses."""
        schedule = self.schedule
        image, mask = self._batch()
        for group in self.generator_optimiser.param_groups:
            group["lr"] = schedule.rate(self.step)
        with self._mixed_precision():
            painted = complete(self.generator, image, mask, pyramid=True)
        composite = image * (1.0 - mask) + painted * mask
        loss = schedule.reconstruction_weight * reconstruction(painted, image, mask)
        losses = {"reconstruction": float(loss.detach())}
        adversarial = schedule.adversarial(self.step)
        if adversarial > 0.0:
            losses["discriminator"] = self._discriminator_step(image, composite.detach(), mask)
            self.discriminator.requires_grad_(False)
            with self._mixed_precision():
                with torch.no_grad():
                    _, real_features = self.discriminator(image, mask)
                logits, fake_features = self.discriminator(composite, mask)
            fooling = generator_adversarial(logits.float(), mask)
            matching = feature_matching(real_features, fake_features)
            self.discriminator.requires_grad_(True)
            loss = loss + adversarial * (
                schedule.adversarial_weight * fooling + schedule.matching_weight * matching
            )
            losses |= {"adversarial": float(fooling.detach()), "matching": float(matching.detach())}
        self.generator_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.workers.average_gradients(self.generator)
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        self.generator_optimiser.step()
        self.average.update(self.generator, self.step)
        self.step += 1
        return losses

    def _discriminator_step(self, image: Tensor, composite: Tensor, mask: Tensor) -> float:
        with self._mixed_precision():
            real, _ = self.discriminator(image, mask)
            fake, _ = self.discriminator(composite, mask)
        loss = discriminator_loss(real.float(), fake.float(), mask)
        if self.step % self.schedule.penalty_every == 0:
            weight = self.schedule.penalty_weight * self.schedule.penalty_every
            loss = loss + weight * gradient_penalty(self.discriminator, image, mask)
        self.discriminator_optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.workers.average_gradients(self.discriminator)
        self.discriminator_optimiser.step()
        return float(loss.detach())

    def _mixed_precision(self) -> torch.autocast:
        # Convolutions in BF16: twice the speed where the hardware has it, with FP32's range.
        return torch.autocast(self.device.type, torch.bfloat16)

    def _batch(self) -> tuple[Tensor, Tensor]:
        schedule = self.schedule
        drawn = self.step * self.workers.count + self.workers.rank
        images, masks = random_batch(self.photos, schedule.seed, drawn, schedule.batch, schedule.crop)
        return self._tensor(images) / 255.0, self._tensor(masks)

    def _tensor(self, array: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(array).permute(0, 3, 1, 2).to(self.device, torch.float32)

    @torch.no_grad()
    def _write_samples(self, generator: Generator) -> None:
        # Seed + 1: the same crops at every save, and not the first batch of the run.
        images, masks = random_batch(self.photos, self.schedule.seed + 1, 0, 6, self.schedule.crop)
        image, mask = self._tensor(images) / 255.0, self._tensor(masks)
        painted = complete(generator, image, mask, pyramid=True).clamp(0.0, 1.0)
        rows = torch.cat([image * (1.0 - mask), image * (1.0 - mask) + painted * mask, image], dim=3)
        sheet = (rows.permute(0, 2, 3, 1).flatten(0, 1).cpu().numpy() * 255.0).round().astype(np.uint8)
        folder = self.out / "samples"
        folder.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / f"{self.step:06d}.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))


def train(trainer: Trainer, save_minutes: float) -> None:
    """Run to the schedule's last step, printing a line now and then and saving every ``save_minutes``."""
    steps = trainer.schedule.steps
    started, first = time.monotonic(), trainer.step
    saved = started
    sums: dict[str, float] = {}
    counted = 0
    while trainer.step < steps:
        for name, value in trainer.train_step().items():
            sums[name] = sums.get(name, 0.0) + value
        counted += 1
        if not trainer.workers.is_first:
            continue
        now = time.monotonic()
        if trainer.step % 20 == 0 or trainer.step == steps:
            pace = (now - started) / (trainer.step - first)
            means = "  ".join(f"{name} {total / counted:.4f}" for name, total in sums.items())
            eta = (steps - trainer.step) * pace / 60
            print(f"step {trainer.step}/{steps}  {means}  {pace:.2f} s/step  {eta:.0f} min left", flush=True)
            with (trainer.out / "log.csv").open("a") as log:
                log.writelines(
                    f"{trainer.step},{name},{total / counted:.6f}\n" for name, total in sums.items()
                )
            sums, counted = {}, 0
        if now - saved > save_minutes * 60 or trainer.step == steps:
            trainer.save()
            saved = now


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m nexus_export.training.lama", description="Train the compact LaMa."
    )
    parser.add_argument(
        "--photos", type=Path, action="append", required=True, help="folder of photos; may be repeated"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for state and weights; resumes")
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--batch", type=int, default=4, help="crops a step of each worker")
    parser.add_argument("--crop", type=int, default=96, help="pixels, a multiple of 8")
    parser.add_argument(
        "--adversarial-from",
        type=float,
        default=Schedule.adversarial_from,
        help="share of the run after which the discriminator joins",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, help="processor threads; default: all")
    parser.add_argument("--save-minutes", type=float, default=5.0)
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        photos = load_photos(options.photos)
    except BuildError as error:
        parser.error(str(error))
    workers = Workers()
    schedule = Schedule(
        steps=options.steps,
        batch=options.batch,
        crop=options.crop,
        seed=options.seed,
        adversarial_from=options.adversarial_from,
    )
    trainer = Trainer(schedule, photos, options.out, torch.device(options.device), workers)
    if workers.is_first:
        print(f"{len(photos)} photos, {workers.count} workers, from step {trainer.step}", flush=True)
    train(trainer, options.save_minutes)
    workers.close()


if __name__ == "__main__":
    main()
