"""The DFT as matrix products is torch.fft's."""

import pytest
import torch
from nexus_export.families.lama.dft import fourier_basis, irfft2, rfft2

SIZES = [(8, 8), (5, 12), (16, 9), (7, 7), (32, 25), (9, 33), (2, 3), (64, 64), (1, 6)]

# FP32 sums of up to 64 x 64 terms of size 1: a few hundred times the rounding unit of 6e-8.
TOLERANCE = 2e-5


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_forward_equals_torch(height: int, width: int) -> None:
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    real, imaginary = rfft2(x, fourier_basis(x))
    expected = torch.fft.rfft2(x, norm="ortho")
    torch.testing.assert_close(real, expected.real, atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(imaginary, expected.imag, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_inverse_equals_torch(height: int, width: int) -> None:
    """On any spectrum, as ReLU makes them: not only on those that a real image has."""
    seeded = torch.Generator().manual_seed(1)
    real, imaginary = torch.randn(2, 2, 3, height, width // 2 + 1, generator=seeded).relu()
    basis = fourier_basis(torch.empty(1, 1, height, width))
    expected = torch.fft.irfft2(torch.complex(real, imaginary), s=(height, width), norm="ortho")
    torch.testing.assert_close(irfft2(real, imaginary, basis), expected, atol=TOLERANCE, rtol=0)


def test_angles_stay_exact_at_a_large_size() -> None:
    """k * n passes 2 ** 24 there: an angle that is not reduced in integers would lose FP32's last digits."""
    x = torch.randn(1, 1, 1, 6000, generator=torch.Generator().manual_seed(2))
    real, _ = rfft2(x, fourier_basis(x))
    # 6000 terms instead of the 4096 above, of the same size.
    torch.testing.assert_close(real, torch.fft.rfft2(x, norm="ortho").real, atol=TOLERANCE, rtol=0)
