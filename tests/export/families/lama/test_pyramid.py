"""The pyramid fill: known pixels stay, holes get the colours around them."""

import pytest
import torch
from nexus_export.families.lama.pyramid import pyramid_fill


def test_known_pixels_are_unchanged() -> None:
    image = torch.rand(2, 3, 40, 72, generator=torch.Generator().manual_seed(0))
    mask = (torch.rand(2, 1, 40, 72, generator=torch.Generator().manual_seed(1)) < 0.5).float()
    filled = pyramid_fill(image, mask)
    assert torch.equal(filled * (1 - mask), image * (1 - mask))


def test_a_flat_surrounding_fills_flat() -> None:
    image = torch.full((1, 3, 64, 96), 0.25)
    mask = torch.zeros(1, 1, 64, 96)
    mask[:, :, 10:50, 20:90] = 1
    # Averages and interpolations of one value: only FP32 rounding can move it.
    torch.testing.assert_close(pyramid_fill(image, mask), image, atol=1e-6, rtol=0)


def test_what_lies_under_the_hole_does_not_matter() -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[:, :, 8:24, 8:24] = 1
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(pyramid_fill(image, mask), pyramid_fill(image * (1 - mask), mask))


def test_the_left_half_of_a_hole_takes_the_left_colour() -> None:
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, :, 32:] = 1.0
    mask = torch.zeros(1, 1, 64, 64)
    mask[:, :, 16:48, 16:48] = 1
    row = pyramid_fill(image, mask)[0, 0, 32]
    assert row[18] < 0.3
    assert row[45] > 0.7


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 264), (16, 16)])
def test_nothing_known_gives_mid_grey(height: int, width: int) -> None:
    filled = pyramid_fill(torch.rand(1, 3, height, width), torch.ones(1, 1, height, width))
    assert torch.equal(filled, torch.full_like(filled, 0.5))
