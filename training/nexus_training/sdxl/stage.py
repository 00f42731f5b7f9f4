"""What the autoencoder's and the denoiser's training share: settings, weight updates, saved and resumed state."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

import torch
from torch import Tensor

from nexus_training.muon import Muon
from nexus_training.runtime import AnyModule, Budget, MovingAverage, learning_rate, load, save

AVERAGING_DECAY = 0.998
LOG_EVERY = 50


@dataclass(frozen=True)
class RunSettings:
    """How a stage is trained, logged and saved."""

    out: Path
    minutes: float
    # Replace the minutes if given.
    steps: int | None
    batch: int
    # Peak learning rate of Muon; AdamW's is half of it.
    rate: float
    seed: int
    save_seconds: float
    log: Callable[[str], None]


class Stage(Generic[AnyModule]):
    """A module in training, its optimiser, moving average and budget; resumes from `NAME.pt` in the output folder."""

    def __init__(
        self, name: str, module: AnyModule, optimiser: Muon, settings: RunSettings, *, key: str
    ) -> None:
        """`key` is the module's in the saved state."""
        self.name, self.module, self.key = name, module, key
        self.optimiser, self.settings = optimiser, settings
        self.average = MovingAverage(module, AVERAGING_DECAY)
        self.path = settings.out / f"{name}.pt"
        self.step, seconds = 0, 0.0
        self.state = load(self.path, next(module.parameters()).device)
        if self.state is not None:
            module.load_state_dict(self.state[key])
            self.average.module.load_state_dict(self.state["average"])
            optimiser.load_state_dict(self.state["optimiser"])
            self.step, seconds = self.state["step"], self.state["seconds"]
        self.budget = Budget(settings.minutes, settings.steps, seconds)
        self._saved = self._logged = self.budget.spent_seconds
        self._logged_step = self.step

    @property
    def fraction(self) -> float:
        """Share of the budget that is spent."""
        return self.budget.fraction(self.step)

    @property
    def is_log_due(self) -> bool:
        return self.step % LOG_EVERY == 0

    @property
    def is_save_due(self) -> bool:
        return self.budget.spent_seconds - self._saved > self.settings.save_seconds

    def update(self, loss: Tensor, fraction: float) -> None:
        """Take one training step."""
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        rate = learning_rate(self.settings.rate, self.step, fraction)
        self.optimiser.step(rate, rate / 2)
        self.average.update(self.step)
        self.step += 1

    def log(self, fraction: float, figures: str) -> None:
        """Log figures and the pace since the last call."""
        seconds = self.budget.spent_seconds
        pace = (self.step - self._logged_step) / (seconds - self._logged)
        self.settings.log(f"{self.name} step {self.step} {fraction:.0%} {pace:.2f} it/s {figures}")
        self._logged, self._logged_step = seconds, self.step

    def save(self, **more: float) -> None:
        """Write the state, and `more` with it."""
        state = {
            self.key: self.module.state_dict(),
            "average": self.average.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.budget.spent_seconds,
        }
        save(self.path, state | more)
        self._saved = self.budget.spent_seconds
