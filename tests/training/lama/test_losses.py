"""The losses on pixels and structure, and the balance of gradients."""

import pytest
import torch
from nexus_export.quality.metrics import ssim
from nexus_training.lama.losses import GradientBalance, reconstruction_loss, ssim_loss


def test_balance_scales_every_gradient_to_its_share() -> None:
    painted = torch.ones(1, 1, 2, 2, requires_grad=True)
    losses = {"reconstruction": 3 * painted[0, 0, 0].sum(), "structure": 1e-4 * painted[0, 0, 1].sum()}
    gradient = GradientBalance().combine(losses, {"structure": 0.5}, painted)
    torch.testing.assert_close(gradient[0, 0], torch.tensor([[3.0, 3.0], [1.5, 1.5]]))


def test_reconstruction_counts_the_hole_alone_and_its_edge_more() -> None:
    image = torch.zeros(1, 3, 4, 4)
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :1, :] = 1
    painted = mask * 0.5 + (1 - mask) * 0.25
    assert reconstruction_loss(painted, image, mask) == pytest.approx(0.5)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 8:56, 8:56] = 1
    edge, deep = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    edge[..., 8, 32] = deep[..., 32, 32] = 1
    # At the edge 8 of the 17 rows around are known: 8 / 17 + 0.2 against 0.2.
    ratio = reconstruction_loss(edge, edge * 0, mask) / reconstruction_loss(deep, deep * 0, mask)
    assert ratio == pytest.approx((8 / 17 + 0.2) / 0.2)


def test_structure_is_one_minus_the_ssim_of_the_hole() -> None:
    draw = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 1, 48, 48, generator=draw)
    filled = (truth + 0.3 * torch.rand(truth.shape, generator=draw)).clamp(0, 1)
    truth[..., 0, 0] = 1.0  # the other implementation's range is the largest value
    mask = torch.zeros(1, 1, 48, 48)
    mask[..., 5:43, 5:43] = 1  # where its window lies wholly inside the picture
    expected = 1 - ssim(truth[0, 0].numpy(), filled[0, 0].numpy())
    assert ssim_loss(filled, truth, mask) == pytest.approx(expected, abs=1e-4)
    assert ssim_loss(truth, truth, mask) == pytest.approx(0, abs=1e-6)
