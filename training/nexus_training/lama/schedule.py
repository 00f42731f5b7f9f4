"""The hyperparameters of a LaMa training run, and how they change over its course."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Hyperparameters; command-line options set the length, the sizes, the rate and the seed, the rest is fixed.

    A run ends after `minutes` of training, or after `steps` if they are given. Everything that changes during a run is
    a function of its progress (0 to 1), so both kinds of run follow the same course.
    """

    minutes: float = 109.0
    steps: int | None = None
    batch: int = 4
    # Pixels; a multiple of 8.
    crop: int = 96
    seed: int = 0
    # Peak rate of Muon; AdamW trains biases, norms and the outer layers at half of it.
    learning_rate: float = 1.5e-3
    # Reached at the end, on a cosine.
    final_learning_rate: float = 5e-5
    warm_up_steps: int = 300
    # Shares are norms of a loss's gradient at the generator's output relative to the reconstruction's. A ratio of
    # gradients keeps its meaning as losses shrink.
    structure_share: float = 1.0
    grain_share: float = 0.6
    # Weight of the SSIM loss beside the spectral loss of the grain (in nats): noise costs SSIM wherever the lost
    # pixels were smooth.
    ssim_weight: float = 5.0
    # Progress from which batch norms are frozen, so that the generator trains as the function that is exported.
    train_norms_until: float = 0.75
    averaging_decay: float = 0.998

    def learning_rate_at(self, step: int, progress: float) -> float:
        """Muon's learning rate: a linear warm-up, then a cosine."""
        warm = min(1.0, (step + 1) / self.warm_up_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return warm * (self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine)
