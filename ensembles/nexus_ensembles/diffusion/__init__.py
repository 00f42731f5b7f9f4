"""Latent diffusion inpainting: the crop, the parameters, sampling, previews and the tiers. Calls no networks."""
