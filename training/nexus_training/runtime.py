"""What every training run needs: time budget, learning rate, saved state, moving average, processes and device."""

import copy
import math
import os
import time
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, distributed, nn


class Budget:
    """Ends a stage after so many minutes of its own time, over resumed runs too, or after so many steps."""

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
    """A copy of a module, in eval mode, that follows its weights and norms slowly; what is sampled from and saved."""

    def __init__(self, module: AnyModule, decay: float) -> None:
        self.module: AnyModule = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        # Taken here: compiling a module wraps it, its parameters stay the same objects.
        self._averages, self._weights = _floating(self.module), _floating(module)

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take one step's weights in; early steps count for more, so that the start is forgotten."""
        share = 1.0 - min(self.decay, (1 + step) / (20 + step))
        # One kernel for all tensors: one each would take as long as the step itself on a GPU.
        torch._foreach_lerp_(self._averages, self._weights, share)


def _floating(module: nn.Module) -> list[Tensor]:
    return [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]


def save(path: Path, state: dict[str, Any]) -> None:
    """Replace the file; a run killed while writing still has the previous one."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    partial.replace(path)


def load(path: Path, device: torch.device) -> dict[str, Any] | None:
    """The saved state, or None where there is none."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return state


class Workers:
    """This process's place among the workers; alone unless torchrun started it."""

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1:
            distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")

    @property
    def is_first(self) -> bool:
        """True in the one process that prints and saves."""
        return self.rank == 0

    def agreed(self, value: float) -> float:
        """The first worker's value. Clocks differ, and workers that part on what comes next would wait forever."""
        if self.count == 1:
            return value
        values = [value]
        distributed.broadcast_object_list(values, src=0)
        return values[0]

    def average_gradients(self, module: nn.Module) -> None:
        """Replace every worker's gradients of `module` by their mean over the workers."""
        if self.count == 1:
            return
        gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        joined = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(joined)
        joined /= self.count
        means = torch.split(joined, [gradient.numel() for gradient in gradients])
        for gradient, mean in zip(gradients, means):
            gradient.copy_(mean.view_as(gradient))

    def close(self) -> None:
        """Leave the group."""
        if self.count > 1:
            distributed.destroy_process_group()


def sent(values: ArrayLike, device: torch.device) -> Tensor:
    """The values as a tensor on `device`, floats as float32.

    A plain `.to(device)` waits until the device has done everything asked of it before; many of those in a
    step leave it idle while the processor prepares what comes next.
    """
    array = np.asarray(values)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    return torch.from_numpy(array).to(device, non_blocking=True)
