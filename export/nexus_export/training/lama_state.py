"""What a training run keeps on disk: everything needed to go on as if it had never stopped."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

STATE_FILE = "state.pt"


class MovingAverage:
    """An exponential moving average of a module's parameters and buffers: calmer than the last step's."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take one step's weights in; early steps count for more, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        current = module.state_dict()
        floating = [name for name, value in current.items() if value.is_floating_point()]
        # One kernel for all tensors: one each would take as long as the step itself on a GPU.
        torch._foreach_lerp_(
            [self.state[name] for name in floating], [current[name] for name in floating], 1.0 - decay
        )
        for name in current.keys() - set(floating):
            self.state[name].copy_(current[name])


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Replace the state file; a run killed while writing still has the previous one."""
    partial = folder / f"{STATE_FILE}.partial"
    torch.save(state, partial)
    partial.replace(folder / STATE_FILE)


def load_state(folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The saved state, or None where the folder has none."""
    path = folder / STATE_FILE
    if not path.exists():
        return None
    loaded: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    return loaded
