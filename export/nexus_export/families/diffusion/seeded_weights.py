"""Random weights of the tiny diffusion sets: the same on every machine, with torch and without.

Each tensor has a generator of its own, seeded by its name, so that a template filled here and a checkpoint
written by `tiny_checkpoint` hold the same numbers. They are untrained: such a network paints noise.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

# Of the published autoencoders: the factors that scale their latents to a standard deviation of 1.
SCALING_FACTORS = {"sdxl": 0.13025, "sd15": 0.18215}

# Where a network's output would be too small: with these, predicted noise and latents have a standard deviation near
# 1, as trained networks' have, so that sampling neither explodes nor stands still.
_GAINS = {"unet.conv_out.weight": 1.9, "vae.quant_conv.weight": 12.0}


def seeded_weight(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The weight of this name, as in the state dicts of `modules`: FP32.

    Norms are the identity (weights 1), biases are 0, all else is N(0, gain^2 / fan in).
    """
    if len(shape) == 1:
        return np.full(shape, name.endswith(".weight"), np.float32)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    std = _GAINS.get(name, 1.0) / np.sqrt(np.prod(shape[1:]))
    drawn = np.random.Generator(np.random.Philox(seed)).standard_normal(shape, np.float32)
    return drawn * np.float32(std)


def seeded_weights(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
    """A weight for each name, see `seeded_weight`."""
    return {name: seeded_weight(name, shape) for name, shape in shapes.items()}
