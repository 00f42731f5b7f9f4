"""How far two outputs of a network lie apart: every figure compares `found` with `reference`, of the same shape."""

import numpy as np
from numpy.typing import NDArray

from nexus_export.exported import Array

# The PSNR of equal outputs: that of a difference of 1 in a hundred million.
MAX_PSNR_DB = 160.0
# SSIM's window and constants: Wang et al. 2004 (doi:10.1109/TIP.2003.819861), a Gaussian of 11 pixels.
_WINDOW, _SIGMA, _K1, _K2 = 11, 1.5, 0.01, 0.03


def max_abs(reference: Array, found: Array) -> float:
    """The largest absolute difference, in the outputs' own unit."""
    return float(np.abs(reference.astype(np.float64) - found).max())


def mean_abs_levels(reference: Array, found: Array) -> float:
    """The mean absolute difference of two alphas in [0, 1], in levels of 255."""
    return float(np.abs(reference.astype(np.float64) - found).mean() * 255)


def peak_of(reference: Array) -> float:
    """The range that PSNR and SSIM relate to: 255 of UINT8, else from the least to the largest value."""
    return 255.0 if reference.dtype == np.uint8 else float(np.ptp(reference.astype(np.float64)))


def psnr_db(reference: Array, found: Array, where: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio over the values at `where` (broadcast), or over all; see `peak_of`."""
    error = np.square(reference.astype(np.float64) - found)
    mean = float(error.mean() if where is None else error[np.broadcast_to(where, error.shape)].mean())
    peak = peak_of(reference)
    if mean == 0 or peak == 0:
        return MAX_PSNR_DB if mean == 0 else 0.0
    return min(MAX_PSNR_DB, float(10 * np.log10(peak**2 / mean)))


def mask_iou(reference: NDArray[np.bool_], found: NDArray[np.bool_]) -> float:
    """Intersection over union; two empty masks are equal."""
    union = np.logical_or(reference, found).sum()
    return float(np.logical_and(reference, found).sum() / union) if union else 1.0


def ssim(reference: Array, found: Array) -> float:
    """Mean structural similarity of two planes [H, W], see `peak_of` for their range."""
    peak = peak_of(reference) or 1.0
    a, b = reference.astype(np.float64), found.astype(np.float64)
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a, variance_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    similarity = ((2 * mean_a * mean_b + c1) * (2 * covariance + c2)) / (
        (mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2)
    )
    return float(similarity.mean())


def _blurred(plane: NDArray[np.float64]) -> NDArray[np.float64]:
    """The Gaussian window's mean wherever the window lies inside the plane."""
    places = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(places**2) / (2 * _SIGMA**2))
    window /= window.sum()
    for _ in range(2):  # along rows, then, transposed, along columns
        views = np.lib.stride_tricks.sliding_window_view(plane, _WINDOW, axis=1)
        plane = (views @ window).T
    return plane
