"""Texture as noise whose amplitude the generator gives: by pixel, octave and direction.

Nothing tells one place in the middle of a large hole from the next, so a convolutional generator that is asked for
texture there draws dots at the stride of its decoder. Noise breaks the tie (why StyleGAN takes some: Karras et al.
2019, section 3.2); in bands of an octave and a direction it takes on the spectrum of the hole's surroundings, as
texture synthesis has long done (Heeger and Bergen 1995).
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Wavelengths of 2 to 4, 4 to 8 and 8 to 16 pixels. Coarser structure can be predicted, and is the generator's own.
OCTAVES, DIRECTIONS = 3, 4

BANDS = OCTAVES * DIRECTIONS

# Pixels after which the noise repeats.
SIDE = 96

# Pixels of the square that amplitude is averaged over. Let to flicker, it learns to be loud in single pixels, which
# costs SSIM least and shows as specks.
EVEN = 9


@lru_cache
def tile(device: torch.device) -> Tensor:
    """FP16 [1, BANDS, SIDE, SIDE]: seeded white noise in disjoint bands, the finest octave first; unit std.

    In FP32 it would be an eighth of a network in INT8.
    """
    white = np.random.default_rng(0).standard_normal((BANDS, SIDE, SIDE))
    fx = np.fft.fftfreq(SIDE)
    fy = fx[:, None]
    # Frequencies that lie on a boundary must not change bands with the last bit of a machine's logarithm.
    octave = np.floor(-np.log2(np.maximum(np.hypot(fy, fx), 1e-9) / 0.5) + 1e-9).clip(0)
    sector = np.floor(np.arctan2(fy, fx) % np.pi / np.pi * DIRECTIONS + 1e-9).clip(max=DIRECTIONS - 1)
    inside = (fx > -0.5) & (fy > -0.5)  # the highest frequency has no direction: it is its own negative
    band = np.where(inside, octave * DIRECTIONS + sector, -1)
    noise = np.fft.ifft2(np.fft.fft2(white) * (band == np.arange(BANDS)[:, None, None])).real
    noise /= noise.std((1, 2), keepdims=True)
    return torch.from_numpy(noise[None].astype(np.float16)).to(device)


def grain(amplitude: Tensor, noise: Tensor) -> Tensor:
    """The noise with the given amplitude around every pixel: a change of brightness [B, 1, H, W].

    Args:
        amplitude: FP32 [B, BANDS, H, W]: the amplitude of every band, in units of the picture; a negative one turns
            the noise over.
        noise: FP16 [B or 1, BANDS, SIDE, SIDE], repeated over the picture.
    """
    # Columns, then rows: the result of a square with 18 additions instead of 81.
    for size, padding in (((EVEN, 1), (EVEN // 2, 0)), ((1, EVEN), (0, EVEN // 2))):
        amplitude = functional.avg_pool2d(amplitude, size, 1, padding, count_include_pad=False)
    height, width = amplitude.shape[-2:]
    # Rounded up by an addition: exported, a division of negative integers rounds towards zero.
    tall, wide = ((side + SIDE - 1) // SIDE for side in (height, width))
    return (amplitude * noise.repeat(1, 1, tall, wide)[..., :height, :width].float()).sum(1, keepdim=True)
