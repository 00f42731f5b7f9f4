"""Local log-power spectra: how much texture of each scale and direction a picture has, and where.

A fill with its surroundings' texture has the right spectrum even if its pixels are not the lost ones; a blurred fill
does not. Used as a loss and, averaged over a hole, as a quality figure.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)

# Power of white noise of one grey level: weaker detail is invisible and must not count.
POWER_FLOOR = 1.0 / 255.0**2

# Directions that the loss distinguishes: oriented texture has a different power in each.
SECTORS = 4

# Weight of whole holes in the loss; single patches have the rest. Averaged over a hole, the grain may be strong where
# the picture is rough anyway, which costs SSIM little.
WHOLE_HOLE_WEIGHT = 0.75


@lru_cache
def _bins(size: int, sectors: int, device: torch.device) -> Tensor:
    # [frequencies, bins]: averages the half spectrum of a patch over rings half an octave wide and sectors.
    fy = torch.fft.fftfreq(size)[:, None] * size
    fx = torch.fft.rfftfreq(size)[None] * size
    radius = torch.hypot(fy, fx)
    ring = (2.0 * torch.log2(radius.clamp(min=1.0))).round().long()
    sector = (torch.atan2(fy, fx).remainder(torch.pi) / torch.pi * sectors).long().clamp(max=sectors - 1)
    bins = (ring * sectors + sector).flatten()
    inside = ((radius >= 1.0) & (radius <= size / 2)).flatten()
    columns = [(bins == value) & inside for value in range(int(bins.max()) + 1)]
    shares = torch.stack([column / column.sum() for column in columns if column.any()], dim=1)
    return shares.to(device, torch.float32)


def local_power(image: Tensor, size: int, stride: int, sectors: int) -> Tensor:
    """Power of the brightness in Hann-windowed patches, in squared units of the image.

    Args:
        image: FP32 [B, 3, H, W].
        size, stride: of the patches, in pixels.
        sectors: directions to distinguish; 1 averages over all.

    Returns:
        FP32 [B, patches, bins]: white noise with standard deviation s has power s squared in every bin.
    """
    weights = torch.tensor(LUMA, device=image.device)[:, None, None]
    patches = functional.unfold((image * weights).sum(1, keepdim=True), size, stride=stride)
    patches = patches.transpose(1, 2).reshape(len(image), -1, size, size)
    patches = patches - patches.mean((2, 3), keepdim=True)
    hann = torch.hann_window(size, periodic=False, device=image.device)
    window = hann[:, None] * hann[None]
    spectrum = torch.fft.rfft2(patches * window)
    power = (spectrum.real.square() + spectrum.imag.square()) / window.square().sum()
    return torch.matmul(power.flatten(2), _bins(size, sectors, image.device))


def hole_share(mask: Tensor, size: int, stride: int) -> Tensor:
    """Share of every patch that lies in the hole: [B, 1, H, W] to [B, patches]."""
    return functional.avg_pool2d(mask, size, stride=stride).flatten(1)


def spectral_loss(composite: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of log-power spectra, in nats: of every patch that a hole touches, and of whole holes.

    Whole holes are included because power is uneven: with the logarithm right in the median patch, the texture of a
    hole as a whole is still too weak.

    Args:
        composite, image: FP32 [B, 3, H, W] in [0, 1]: the filled picture and the truth.
        mask: FP32 [B, 1, H, W], 1 in the hole.
    """
    losses = []
    for size in (16, 32):
        share = hole_share(mask, size, size // 2)[..., None]
        share = share / (share.sum(1, keepdim=True) + 1e-6)
        fake, real = (local_power(x, size, size // 2, SECTORS) for x in (composite, image))
        patches = ((fake + POWER_FLOOR).log() - (real + POWER_FLOOR).log()).abs()
        holes = [((power * share).sum(1) + POWER_FLOOR).log() for power in (fake, real)]
        whole = (holes[0] - holes[1]).abs().mean()
        losses.append((1.0 - WHOLE_HOLE_WEIGHT) * (patches * share).sum(1).mean() + WHOLE_HOLE_WEIGHT * whole)
    return torch.stack(losses).mean()


def hole_spectrum_error(filled: Tensor, truth: Tensor, mask: Tensor) -> Tensor:
    """Error in dB of the mean power spectrum inside every hole, averaged over half-octave rings.

    Patches of 16 pixels that lie wholly in the hole count; their power is averaged before the logarithm.

    Args:
        filled, truth: FP32 [B, 3, H, W] in [0, 1].
        mask: FP32 [B, 1, H, W], 1 in the hole.

    Returns:
        FP32 [B]; NaN for a hole too thin for a single patch.
    """
    inside = (hole_share(mask, 16, 4) > 0.999).float()[..., None]
    means = [
        (local_power(x, 16, 4, 1) * inside).sum(1) / inside.sum(1) + POWER_FLOOR for x in (filled, truth)
    ]
    return (10.0 * (means[0].log10() - means[1].log10())).abs().mean(1)
