"""LaMa's patch discriminator and its losses (Suvorov et al. 2021, section 3.2)."""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nexus_training.lama.schedule import Schedule
from nexus_training.runtime import DistributedContext


class PatchDiscriminator(nn.Module):
    """Scores overlapping patches of image and mask as real or filled (Isola et al. 2017)."""

    def __init__(self, width: int = 48) -> None:
        super().__init__()
        channels = [4, width, width * 2, width * 4, width * 4]
        # No normalisation: the gradient penalty regularises, and a sample's score must not depend on its batch.
        self.layers = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=4, stride=2 if index < 3 else 1, padding=2)
            for index, (inputs, outputs) in enumerate(pairwise(channels))
        )
        self.head = nn.Conv2d(channels[-1], 1, kernel_size=4, padding=2)

    def forward(self, image: Tensor, mask: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits [B, 1, h, w] (positive: real) and the features of every layer.

        Args:
            image: FP32 [B, 3, H, W] in [0, 1].
            mask: FP32 [B, 1, H, W], 1 in the hole.
        """
        x = torch.cat([image * 2.0 - 1.0, mask], dim=1)
        features = []
        for layer in self.layers:
            x = functional.leaky_relu(layer(x), 0.2)
            features.append(x)
        return self.head(x), features


def discriminator_loss(real: Tensor, fake: Tensor, mask: Tensor) -> Tensor:
    """Non-saturating loss; patches of the fake that touch no hole contain only real pixels and count as real."""
    touched = functional.adaptive_max_pool2d(mask, fake.shape[-2:])
    on_fake = functional.softplus(fake) * touched + functional.softplus(-fake) * (1.0 - touched)
    return functional.softplus(-real).mean() + on_fake.mean()


def generator_loss(fake: Tensor, mask: Tensor) -> Tensor:
    """Non-saturating loss over the patches that touch a hole."""
    touched = functional.adaptive_max_pool2d(mask, fake.shape[-2:])
    return (functional.softplus(-fake) * touched).sum() / touched.sum()


def feature_matching_loss(real: list[Tensor], fake: list[Tensor], mask: Tensor) -> Tensor:
    """Mean absolute difference of the discriminator's features (Wang et al. 2018) at positions that a hole touches.

    Averaged over the positions of a layer, then over the layers.
    """
    losses = []
    for expected, got in zip(real, fake, strict=True):
        touched = functional.adaptive_max_pool2d(mask, got.shape[-2:])
        difference = (expected.detach().float() - got.float()).abs() * touched
        losses.append(difference.sum() / (touched.sum() * got.shape[1]))
    return torch.stack(losses).mean()


def gradient_penalty(discriminator: PatchDiscriminator, image: Tensor, mask: Tensor) -> Tensor:
    """R1 (Mescheder et al. 2018): squared gradient of the real logits with respect to the image."""
    image = image.detach().requires_grad_()
    logits, _ = discriminator(image, mask)
    (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


class AdversarialLoss:
    """The discriminator with its optimiser, and the losses it gives the generator.

    Images are FP32 [n, 3, H, W] in [0, 1], masks FP32 [n, 1, H, W], 1 in the hole.
    """

    def __init__(self, schedule: Schedule, device: torch.device, distributed: DistributedContext) -> None:
        self.schedule, self.device, self.distributed = schedule, device, distributed
        self.network = PatchDiscriminator().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), lr=schedule.discriminator_learning_rate, betas=(0.0, 0.99)
        )

    def state_dict(self) -> dict[str, Any]:
        """Network and optimiser, for `load_state_dict`."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])

    def losses(self, image: Tensor, fill: Tensor, mask: Tensor) -> dict[str, Tensor]:
        """The generator's adversarial and feature matching losses of `fill`."""
        self.network.requires_grad_(False)
        with self._mixed_precision():
            with torch.no_grad():
                _, real_features = self.network(image, mask)
            logits, fake_features = self.network(fill, mask)
        self.network.requires_grad_(True)
        return {
            "adversarial": generator_loss(logits.float(), mask),
            "matching": feature_matching_loss(real_features, fake_features, mask),
        }

    def train_step(self, step: int, image: Tensor, fill: Tensor, mask: Tensor) -> Tensor:
        """Update the discriminator on a detached `fill`; returns its loss."""
        with self._mixed_precision():
            real, _ = self.network(image, mask)
            fake, _ = self.network(fill, mask)
        loss = discriminator_loss(real.float(), fake.float(), mask)
        if step % self.schedule.penalty_every == 0:
            weight = self.schedule.penalty_weight * self.schedule.penalty_every
            loss = loss + weight * gradient_penalty(self.network, image, mask)
        self.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.distributed.average_gradients(self.network)
        self.optimiser.step()
        return loss.detach()

    def _mixed_precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16)
