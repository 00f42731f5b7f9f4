"""Masked photos and noised latents, as generative fill hands them to its networks."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from nexus_export.exported import Array
from nexus_export.families.diffusion.checks import BETA_END, BETA_START, TRAINING_TIMESTEPS
from nexus_export.quality.masks import outline
from nexus_export.quality.photos import Photo, Pixels

#: Pixels a latent, and the grey that stands for what is to be painted.
LATENT, GREY = 8, 128


@dataclass(frozen=True)
class Masked:
    """A photo with a hole: `picture` UINT8 [H, W, 3], `hole` BOOL [H, W]."""

    picture: Pixels
    hole: NDArray[np.bool_]

    @property
    def blanked(self) -> Pixels:
        return np.where(self.hole[..., None], np.uint8(GREY), self.picture)

    @property
    def latent_mask(self) -> Array:
        """FP32 [1, H/8, W/8] of 0 and 1, as diffusers: one pixel for each latent."""
        return self.hole[None, ::LATENT, ::LATENT].astype(np.float32)


def masked(photo: Photo, height: int, width: int, seed: int) -> Masked:
    """A crop of the photo with an object's outline as its hole."""

    rng = np.random.default_rng(seed)
    return Masked(photo.cropped(height, width, rng), outline(height, width, rng))


def noised(latent: Array, timestep: int, seed: int) -> Array:
    """FP32 [4, h, w]: a latent as a sampler shows it to the UNet at a timestep, of variance 1."""
    signal = _alphas_cumprod()[timestep]
    noise = np.random.default_rng(seed).standard_normal(latent.shape)
    return np.asarray(np.sqrt(signal) * latent + np.sqrt(1 - signal) * noise, np.float32)


@cache
def _alphas_cumprod() -> NDArray[np.float64]:
    """The share of the signal at each timestep, of the "scaled linear" schedule."""
    betas = np.linspace(BETA_START**0.5, BETA_END**0.5, TRAINING_TIMESTEPS) ** 2
    return np.cumprod(1 - betas)
