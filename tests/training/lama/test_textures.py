"""Textures drawn by formula."""

import numpy as np
from nexus_training.lama.textures import KINDS, random_texture


def test_textures_are_seeded_and_have_contrast() -> None:
    for draw in KINDS:
        first, second = (draw(np.random.default_rng(3), 64) for _ in range(2))
        assert first.shape == (64, 64, 3)
        assert np.array_equal(first, second)
    drawn = [random_texture(np.random.default_rng(seed), 64) for seed in range(20)]
    # A few draws may mix two like colours; most must have something to continue.
    assert sum(texture.std() > 5 for texture in drawn) > 14
