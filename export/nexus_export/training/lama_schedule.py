"""The recipe of a LaMa training run: sizes, rates and weights, and how they change over its steps."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The recipe; command-line options replace the sizes, the rest is fixed."""

    steps: int
    batch: int = 4
    crop: int = 96
    """Pixels; a multiple of 8."""
    seed: int = 0
    learning_rate: float = 8e-4
    final_learning_rate: float = 3e-5
    """Reached on a cosine at the last step."""
    discriminator_learning_rate: float = 2e-4
    warm_up_steps: int = 300
    adversarial_from: float = 0.75
    """Share of the run after which the discriminator joins."""
    adversarial_ramp: float = 0.05
    """Share of the run over which the generator's adversarial losses grow to full weight; until then it
    mostly trains the discriminator."""
    reconstruction_weight: float = 6.0
    adversarial_weight: float = 0.02
    matching_weight: float = 1.0
    penalty_weight: float = 0.5
    penalty_every: int = 8
    """Steps between gradient penalties, whose weight is multiplied accordingly (lazy regularisation)."""
    averaging_decay: float = 0.998

    def rate(self, step: int) -> float:
        """The generator's learning rate."""
        warm = min(1.0, (step + 1) / self.warm_up_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return warm * (self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine)

    def adversarial(self, step: int) -> float:
        """Weight factor of the adversarial losses: 0 before they start, then growing to 1."""
        return min(1.0, max(0.0, (step / self.steps - self.adversarial_from) / self.adversarial_ramp))
