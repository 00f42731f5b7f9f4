"""The Muon optimiser (Jordan et al. 2024; scaled as in arXiv:2502.16982), for convolutions too.

It needs far fewer steps than Adam. The compact autoencoder after 100 seconds on two CPU cores: 23.9 dB on held-out
photos, 16.8 dB with AdamW.
"""

from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
# The quintic polynomial whose iteration drives all singular values towards 1.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)

ITERATIONS = 5


def orthogonalize(matrix: Tensor) -> Tensor:
    """Bring all singular values of a matrix [m, n] near 1 (Newton-Schulz)."""
    a, b, c = COEFFICIENTS
    x = matrix.bfloat16()
    x = x / (x.norm() + 1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.T if tall else x
    return result.to(matrix.dtype)


class Muon:
    """Muon for a module's inner weights; AdamW for its first and last layers, embeddings, biases and norms."""

    def __init__(self, module: nn.Module, outer: tuple[str, ...], weight_decay: float = 0.0) -> None:
        """Parameters whose name contains a string of `outer` go to AdamW.

        Kernels are flattened to matrices [outputs, inputs * height * width]; a transposed convolution's to the matrix
        of its adjoint, [inputs, outputs * height * width].
        """
        self.weight_decay = weight_decay
        self.inner: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, weight in module.named_parameters():
            chosen = weight.ndim >= 2 and not any(part in name for part in outer)
            (self.inner if chosen else others).append(weight)
        self.momenta = [torch.zeros_like(weight) for weight in self.inner]
        self.adam = torch.optim.AdamW(others, lr=0.0, betas=(0.9, 0.99), weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, rate: float, adam_rate: float) -> None:
        """Update all weights and clear their gradients."""
        for weight, momentum in zip(self.inner, self.momenta, strict=True):
            if weight.grad is None:
                continue
            momentum.mul_(MOMENTUM).add_(weight.grad)
            update = orthogonalize((weight.grad + MOMENTUM * momentum).reshape(len(weight), -1))
            # Matches the RMS of a typical Adam update.
            scale = 0.2 * max(update.shape) ** 0.5
            weight.mul_(1 - rate * self.weight_decay)
            weight.add_(update.view_as(weight), alpha=-rate * scale)
            weight.grad = None
        for group in self.adam.param_groups:
            group["lr"] = adam_rate
        self.adam.step()
        self.adam.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Momenta and AdamW's state, for `load_state_dict`."""
        return {"momenta": self.momenta, "adam": self.adam.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for momentum, saved in zip(self.momenta, state["momenta"], strict=True):
            momentum.copy_(saved)
        self.adam.load_state_dict(state["adam"])
