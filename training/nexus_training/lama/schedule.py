"""The recipe of a LaMa training run: sizes, rates and weights, and how they change over its course."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The recipe; command-line options replace the sizes and the shares, the rest is fixed.

    A run ends after `steps`, or after `minutes` of training where they are given. Everything that changes
    over a run is a function of the share of it that is done, so both kinds of run follow the same course.
    """

    steps: int = 10_000
    minutes: float | None = None
    batch: int = 4
    # Pixels; a multiple of 8.
    crop: int = 96
    seed: int = 0
    # Muon's; biases, norms and the outer layers get half of it from AdamW.
    learning_rate: float = 1.5e-3
    # Reached on a cosine at the end.
    final_learning_rate: float = 5e-5
    discriminator_learning_rate: float = 2e-4
    warm_up_steps: int = 300
    # Norm of this loss's gradient in the generator's output, relative to the reconstruction's; the next three
    # likewise. A ratio of gradients keeps its meaning as losses shrink and the discriminator grows.
    structure_share: float = 1.0
    grain_share: float = 0.6
    adversarial_share: float = 0.5
    matching_share: float = 0.5
    # What SSIM is worth beside the spectra in the loss of the grain, in nats: noise costs SSIM wherever the lost
    # pixels were smooth.
    quiet: float = 5.0
    # Share of the run after which the discriminator joins, with the two losses above; by default never: the weights
    # of this package were finished without.
    adversarial_from: float = 1.0
    # Share of the run over which they grow to full weight; until then the discriminator mostly trains itself.
    adversarial_ramp: float = 0.1
    # Of R1: it sums over all pixels and all overlapping patches, so a little is much.
    penalty_weight: float = 0.002
    # Steps between gradient penalties, whose weight is multiplied accordingly (lazy regularisation).
    penalty_every: int = 16
    # Share of the run after which the norms keep their statistics: from then on the generator trains as the very
    # function that is exported.
    norms_until: float = 0.75
    averaging_decay: float = 0.998

    def done(self, step: int, trained_seconds: float) -> float:
        """Share of the run that lies behind, 1 at its end."""
        if self.minutes is not None:
            return min(1.0, trained_seconds / (self.minutes * 60.0))
        return step / self.steps

    def rate(self, step: int, done: float) -> float:
        """The generator's learning rate."""
        warm = min(1.0, (step + 1) / self.warm_up_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * done))
        return warm * (self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * cosine)

    def adversarial(self, done: float) -> float:
        """Weight factor of the discriminator's losses: 0 before they start, then growing to 1."""
        return min(1.0, max(0.0, (done - self.adversarial_from) / self.adversarial_ramp))
