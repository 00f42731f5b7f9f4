"""The configuration of a tier, read from its checkpoint; its previews' colours are fitted. Needs torch.

The autoencoder's decoder is far too slow for a preview a step. Each latent pixel's four numbers give the mean
colour of its 8x8 pixels well enough; the map is fitted to the encoder, by least squares over colour fields.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from nexus_export.families.diffusion.checkpoint import Checkpoint
from nexus_export.families.diffusion.modules import VaeEncoder
from nexus_export.families.diffusion.tier_files import TierConfig

_PICTURES, _SIDE, _FACTOR = 8, 128, 8


def tier_config(checkpoint: Checkpoint) -> TierConfig:
    """The configuration of the tier that `checkpoint` becomes."""
    vae = checkpoint.load("vae")
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latent_rgb = fit_latent_rgb(VaeEncoder(vae)).round(3).tolist()
    return TierConfig(
        checkpoint.config("unet")["sample_size"] * factor, latent_rgb, checkpoint.random_weights
    )


def fit_latent_rgb(encoder: VaeEncoder) -> NDArray[np.float64]:
    """Fit the map [5,3]: RGB in [0, 255] of a latent is its four numbers times the first rows, plus the last."""
    pictures = _colour_fields()
    with torch.no_grad():
        latents = encoder(torch.from_numpy(pictures)).permute(0, 2, 3, 1).double().numpy()
    cells = _SIDE // _FACTOR
    colours = pictures.reshape(_PICTURES, cells, _FACTOR, cells, _FACTOR, 3).mean(axis=(2, 4))
    known = np.concatenate([latents, np.ones_like(latents[..., :1])], axis=3)
    fitted: NDArray[np.float64]
    fitted, *_ = np.linalg.lstsq(known.reshape(-1, known.shape[3]), colours.reshape(-1, 3), rcond=None)
    return fitted


def _colour_fields() -> NDArray[np.uint8]:
    """Pictures UINT8 [8,128,128,3] that together show every colour: random ones, from broad to fine, blended."""
    rng = np.random.default_rng(0)
    fields = []
    for index in range(_PICTURES):
        knots = 2 + index * 2
        colours = torch.from_numpy(rng.uniform(0, 255, (1, 3, knots, knots)))
        fields.append(torch.nn.functional.interpolate(colours, size=(_SIDE, _SIDE), mode="bilinear"))
    return torch.cat(fields).permute(0, 2, 3, 1).round().to(torch.uint8).numpy()
