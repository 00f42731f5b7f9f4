"""The losses of the patch discriminator."""

import torch
from nexus_training.lama.adversarial import (
    PatchDiscriminator,
    discriminator_loss,
    feature_matching_loss,
    gradient_penalty,
)


def test_matching_counts_where_the_hole_reaches() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, :4] = 1
    real, fake = torch.zeros(1, 5, 2, 2), torch.full((1, 5, 2, 2), 7.0)
    fake[..., 0, 0] = 0.25
    assert feature_matching_loss([real], [fake], mask) == 0.25


def test_untouched_patches_count_as_real() -> None:
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4, :4] = 1
    fake = torch.full((1, 1, 2, 2), 30.0)
    fake[..., 0, 0] = -30.0
    # softplus(-30) is 1e-13: every patch is judged rightly, the touched one fake, the others real.
    assert discriminator_loss(torch.full((1, 1, 2, 2), 30.0), fake, mask) < 1e-9


def test_gradient_penalty_is_the_squared_slope() -> None:
    discriminator = PatchDiscriminator(width=2)
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.zero_()
    assert gradient_penalty(discriminator, torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)) == 0
