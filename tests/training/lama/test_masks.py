"""The random holes."""

import numpy as np
import pytest
from nexus_training.lama.masks import MAX_SHARE, MIN_SHARE, boxes, outlines, random_mask, strokes, thin_lines


@pytest.mark.parametrize("draw", [strokes, boxes, outlines, thin_lines, random_mask])
def test_masks_are_binary_seeded_and_bounded(draw: object) -> None:
    assert callable(draw)
    masks = [draw(np.random.default_rng(seed), 64) for seed in range(40)]
    assert all(mask.shape == (64, 64) and set(np.unique(mask)) <= {0, 1} for mask in masks)
    assert np.array_equal(masks[3], draw(np.random.default_rng(3), 64))
    assert len({mask.tobytes() for mask in masks}) == 40
    if draw is random_mask:
        assert all(MIN_SHARE <= mask.mean() <= MAX_SHARE for mask in masks)
