"""The orthonormal 2-d real DFT as matrix products.

torch.fft has no ONNX export and no TensorRT kernel, so the exported graph multiplies by cosine and
sine matrices instead. They are built from the run-time height and width, hence one graph serves every
size. Knows nothing of LaMa: the generator decides where the transform is used.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class FourierBasis(NamedTuple):
    """Matrices of the forward and inverse transforms of one size H x W, all FP32.

    With K = W // 2 + 1 columns in the half spectrum of a real signal.
    """

    # [W, 2K]: cosines, then negated sines; a row times this is its half spectrum, real then imaginary.
    row_forward: Tensor
    # [2K, W]: the inverse of row_forward; a column that stands for two (k and W-k) is doubled.
    row_inverse: Tensor
    # [H, H], symmetric.
    column_cosine: Tensor
    # [H, H], symmetric.
    column_sine: Tensor


def _angles(rows: Tensor, columns: Tensor, period: Tensor | int) -> Tensor:
    # The product is reduced modulo the period in integers: FP32 loses the angle's digits otherwise.
    product = (rows[:, None] * columns[None, :]) % period
    return product.to(torch.float32) * (2.0 * torch.pi / period)


def fourier_basis(like: Tensor) -> FourierBasis:
    """The basis for transforms of the last two axes of `like` [B, C, H, W], on its device."""
    height, width = like.shape[-2:]
    y = torch.arange(height, device=like.device)
    x = torch.arange(width, device=like.device)
    k = torch.arange(width // 2 + 1, device=like.device)
    column = _angles(y, y, height)
    row = _angles(x, k, width)
    row_scale, column_scale = width**-0.5, height**-0.5
    # k = 0 and, when W is even, k = W / 2 are their own mirror images and count once.
    is_mirror = (2 * k) % width == 0
    multiplicity = 2.0 - is_mirror.to(torch.float32)
    forward = torch.cat([row.cos(), -row.sin()], dim=1) * row_scale
    inverse = torch.cat([row.cos() * multiplicity, -row.sin() * multiplicity], dim=1) * row_scale
    return FourierBasis(forward, inverse.t(), column.cos() * column_scale, column.sin() * column_scale)


def rfft2(x: Tensor, basis: FourierBasis) -> tuple[Tensor, Tensor]:
    """torch.fft.rfft2(norm="ortho") of FP32 [B, C, H, W]: real and imaginary parts [B, C, H, W // 2 + 1]."""
    real, imaginary = (x @ basis.row_forward).chunk(2, dim=-1)
    return (
        basis.column_cosine @ real + basis.column_sine @ imaginary,
        basis.column_cosine @ imaginary - basis.column_sine @ real,
    )


def irfft2(real: Tensor, imaginary: Tensor, basis: FourierBasis) -> Tensor:
    """torch.fft.irfft2(norm="ortho") to FP32 [B, C, H, W]; inverse of rfft2, odd sizes included."""
    columns = torch.cat(
        [
            basis.column_cosine @ real - basis.column_sine @ imaginary,
            basis.column_cosine @ imaginary + basis.column_sine @ real,
        ],
        dim=-1,
    )
    return columns @ basis.row_inverse
