"""What the pipeline must know of a checkpoint's networks. Needs torch."""

from nexus_export.diffusion.checkpoint import Checkpoint
from nexus_export.diffusion.fill_files import TierFacts
from nexus_export.diffusion.latent_rgb import fit_latent_rgb
from nexus_export.diffusion.modules import VaeEncoder


def tier_facts(checkpoint: Checkpoint) -> TierFacts:
    """The side that it paints at, how its latents look as colours, and whether anybody trained it."""
    vae = checkpoint.load("vae")
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    latent_rgb = fit_latent_rgb(VaeEncoder(vae)).round(3).tolist()
    return TierFacts(checkpoint.config("unet")["sample_size"] * factor, latent_rgb, checkpoint.random_weights)
