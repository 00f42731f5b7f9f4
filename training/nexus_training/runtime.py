"""Shared by all training runs: time budget, learning rate, saved state, moving average and device."""

import copy
import math
import time
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn


class Budget:
    """Ends a stage after a number of minutes, time before a resume included, or of steps if they are given."""

    def __init__(self, minutes: float, steps: int | None, spent_seconds: float = 0.0) -> None:
        self.seconds, self.steps = 60 * minutes, steps
        self._start = time.monotonic() - spent_seconds

    @property
    def spent_seconds(self) -> float:
        return time.monotonic() - self._start

    def fraction(self, step: int) -> float:
        """0 at the start, 1 when the stage is over."""
        if self.steps is not None:
            return step / self.steps
        return self.spent_seconds / self.seconds


WARMUP_STEPS = 150


def learning_rate(peak: float, step: int, fraction: float) -> float:
    """A short linear warm-up, then a half cosine down to 2 % of the peak over the budget."""
    falling = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
    return peak * falling * min(1.0, (step + 1) / WARMUP_STEPS)


AnyModule = TypeVar("AnyModule", bound=nn.Module)


class MovingAverage(Generic[AnyModule]):
    """An exponential moving average of a module's weights and buffers, in eval mode, to sample from and to export."""

    def __init__(self, module: AnyModule, decay: float) -> None:
        self.module: AnyModule = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self._averages, self._weights = _floating(self.module), _floating(module)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights of one step; early steps weigh more, so that the random start is forgotten."""
        share = 1.0 - min(self.decay, (1 + step) / (20 + step))
        # One kernel for all tensors: one each would take as long as the step itself on a GPU.
        torch._foreach_lerp_(self._averages, self._weights, share)


def _floating(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]


def save(path: Path, state: dict[str, Any]) -> None:
    """Write the file atomically: a run killed while it saves keeps the previous state."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """Read a saved state; None if there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


def to_device(values: ArrayLike, device: torch.device) -> Tensor:
    """Copy the values to `device` without waiting for it, floats as float32.

    A plain `.to(device)` blocks until the device has finished all queued work; several of those in a step leave it
    idle while the CPU prepares the next kernels.
    """
    array = np.asarray(values)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return torch.from_numpy(array).to(device, non_blocking=True)
