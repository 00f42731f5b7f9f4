"""Losses weighed by the gradients they send into the generator's output.

Weights for losses of different nature have to be found by trial and change their meaning as a run goes on.
Instead every loss's gradient is scaled to a share of the reconstruction's (in the manner of Esser et al.
2021, Taming Transformers, section 3.1, there at the last layer), by norms averaged over many steps.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

AVERAGING = 0.98
"""Of the norms, per step: a single step's norm jumps with its batch."""

REFERENCE = "reconstruction"


class GradientBalance:
    """Combines the gradients of named losses; ``norms`` is its state."""

    def __init__(self) -> None:
        self.norms: dict[str, Tensor] = {}

    def combine(self, losses: Mapping[str, Tensor], shares: Mapping[str, float], output: Tensor) -> Tensor:
        """The gradient to send back from ``output``, a leaf that the losses depend on.

        Args:
            losses: scalars; "reconstruction" among them, whose gradient counts as it is.
            shares: for every other loss, the norm its gradient gets, relative to the reconstruction's.
        """
        gradients = {
            name: torch.autograd.grad(loss, output, retain_graph=True)[0] for name, loss in losses.items()
        }
        for name, gradient in gradients.items():
            norm = gradient.norm()
            self.norms[name] = torch.lerp(norm, self.norms[name], AVERAGING) if name in self.norms else norm
        total = gradients.pop(REFERENCE)
        for name, gradient in gradients.items():
            total = total + shares[name] * self.norms[REFERENCE] / (self.norms[name] + 1e-12) * gradient
        return total
