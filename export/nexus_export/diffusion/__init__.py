"""SDXL and SD 1.5 inpainting: checkpoints in diffusers' format as networks."""
