"""The adversarial half of LaMa's training: the patch discriminator, its optimiser and what both make of a fill."""

from typing import Any

import torch
from torch import Tensor

from nexus_training.lama.losses import (
    PatchDiscriminator,
    discriminator_loss,
    feature_matching,
    generator_adversarial,
    gradient_penalty,
)
from nexus_training.lama.schedule import Schedule
from nexus_training.runtime import Workers


class Judge:
    """Images are FP32 [n, 3, H, W] in 0..1, masks FP32 [n, 1, H, W] with 1 where the fill is."""

    def __init__(self, schedule: Schedule, device: torch.device, workers: Workers) -> None:
        self.schedule, self.device, self.workers = schedule, device, workers
        self.network = PatchDiscriminator().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=schedule.discriminator_learning_rate, betas=(0.0, 0.99)
        )

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser, for `load_state_dict`."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    def losses(self, image: Tensor, fill: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """What it makes of the generator's `fill`, and how far its features of that are from the truth's."""
        self.network.requires_grad_(False)
        with self._mixed_precision():
            with torch.no_grad():
                _, real_features = self.network(image, mask)
            logits, fake_features = self.network(fill, mask)
        self.network.requires_grad_(True)
        return {
            "adversarial": generator_adversarial(logits.float(), mask),
            "matching": feature_matching(real_features, fake_features, mask),
        }

    def train_step(self, step: int, image: Tensor, fill: Tensor, mask: Tensor) -> Tensor:
        """One step, on a `fill` without gradients. Returns the loss."""
        with self._mixed_precision():
            real, _ = self.network(image, mask)
            fake, _ = self.network(fill, mask)
        loss = discriminator_loss(real.float(), fake.float(), mask)
        if step % self.schedule.penalty_every == 0:
            weight = self.schedule.penalty_weight * self.schedule.penalty_every
            loss = loss + weight * gradient_penalty(self.network, image, mask)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.workers.average_gradients(self.network)
        self.optimiser.step()
        return loss.detach()

    def _mixed_precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)
