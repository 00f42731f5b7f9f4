"""One training run of the compact LaMa: its networks, its step and its saved state."""

from pathlib import Path

import numpy as np
import torch
from nexus_export.families.lama.checkpoint import read_compact, write_compact
from nexus_export.families.lama.generator import OUT_CHANNELS, RESIDUAL_SCALE, Generator
from nexus_export.families.lama.grain import SIDE, grain, tile
from nexus_export.families.lama.network import COMPACT_CONFIG
from nexus_export.families.lama.pyramid import pyramid_fill
from torch import Tensor

from nexus_training.lama.crop_cache import CropCache
from nexus_training.lama.losses import GradientBalance, reconstruction_loss, ssim_loss
from nexus_training.lama.report import Report
from nexus_training.lama.schedule import Schedule
from nexus_training.lama.spectrum import spectral_loss
from nexus_training.muon import Muon
from nexus_training.runtime import Budget, MovingAverage, load, save

STATE = "state.pt"
# Of each noise band, in units of the picture; at zero, a loss of power has no gradient.
INITIAL_AMPLITUDE = 0.001


class Trainer:
    """One run: networks, optimisers and their data."""

    def __init__(
        self,
        schedule: Schedule,
        crops: CropCache,
        report: Report,
        out: Path,
        device: torch.device,
        weights: Path | None = None,
    ) -> None:
        """A new run starts from `weights` (a file of `write_compact`), by default from random ones."""
        torch.manual_seed(schedule.seed)
        self.schedule, self.crops, self.report, self.out, self.device = schedule, crops, report, out, device
        # Convolutions on channels-last tensors are about twice as fast, on CPUs and GPUs alike.
        self.generator = Generator(COMPACT_CONFIG).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
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
        self.step, seconds = 0, 0.0
        state = load(out / STATE, device)
        if state is not None:
            self.generator.load_state_dict(state["generator"])
            self.generator_optimiser.load_state_dict(state["generator_optimiser"])
            self.average.module.load_state_dict(state["average"])
            self.balance.norms = state["gradient_norms"]
            self.step, seconds = state["step"], state["trained_seconds"]
        self.budget = Budget(schedule.minutes, schedule.steps, seconds)

    @property
    def progress(self) -> float:
        """Share of the run that is done: 0 at its start, 1 or more at its end."""
        return self.budget.fraction(self.step)

    def save(self) -> None:
        """Write the state, the exportable weights and a contact sheet."""
        save(
            self.out / STATE,
            {
                "generator": self.generator.state_dict(),
                "generator_optimiser": self.generator_optimiser.state_dict(),
                "average": self.average.module.state_dict(),
                "gradient_norms": self.balance.norms,
                "step": self.step,
                "trained_seconds": self.budget.spent_seconds,
            },
        )
        averaged = self.average.module
        write_compact(averaged, self.out / "lama_compact.safetensors")
        self.report.write_sheet(self.report.fill(averaged), self.out / "sheet.jpg")

    def train_step(self) -> dict[str, Tensor]:
        """Train the generator one step; return the losses."""
        schedule, progress = self.schedule, min(1.0, self.progress)
        image, mask = self.crops.batch(self.step, schedule.batch)
        # Random shifts: fixed noise would be a map of the crop that the generator could memorise.
        rng = np.random.default_rng((schedule.seed, self.step))
        shifts = rng.integers(SIDE, size=(len(mask), 2)).tolist()
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
        shares = {"structure": schedule.structure_share, "grain": schedule.grain_share}
        gradient = self.balance.combine(losses, shares, leaf)
        output.backward(gradient.to(output.dtype))
        torch.nn.utils.clip_grad_norm_(self.generator.parameters(), 1.0)
        rate = schedule.learning_rate_at(self.step, progress)
        self.generator_optimiser.step(rate, rate / 2)
        self.average.update(self.step)
        self.step += 1
        return {name: loss.detach() for name, loss in losses.items()}
