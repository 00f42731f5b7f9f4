"""Seeded clicks and boxes on a photo in the 1024 frame, as the pipelines hand them to SAM's decoder."""

import numpy as np

from nexus_export.exported import Array
from nexus_export.families.sam.constants import BOX_CORNERS, FILLER, IMAGE_SIZE, NOT_A_POINT

#: Pipelines fill prompts up to a multiple of this many.
_POINTS = 8
#: The side of a mask prompt, and its logits where a mask was drawn for sure, as smart_remove hands it on.
_MASK_SIDE, _LOGIT = 256, 6.0


def prompts(inner: tuple[int, int], seed: int) -> list[dict[str, Array]]:
    """The decoder's inputs but for the encoder's outputs, each with a batch axis of 1.

    `inner` is the height and width of the photo in the frame. The prompts are a click, a
    box, three clicks with a negative one, and a box with the mask that was drawn in it.
    """
    rng = np.random.default_rng(seed)
    size = np.array(inner[::-1])
    # Near the middle, where photos have their objects.
    click, other = rng.uniform(0.3, 0.7, (2, 2)) * size
    corners = np.stack([rng.uniform(0.1, 0.3, 2), rng.uniform(0.7, 0.9, 2)]) * size
    nothing = np.zeros((1, 2))
    negative = np.array([[0.05, 0.05]]) * size
    return [
        _prompt(np.concatenate([click[None], nothing]), (1, NOT_A_POINT)),
        _prompt(corners, BOX_CORNERS),
        _prompt(np.concatenate([click[None], other[None], negative, nothing]), (1, 1, 0, NOT_A_POINT)),
        _prompt(corners, BOX_CORNERS, _ellipse(corners)),
    ]


def _prompt(points: Array, labels: tuple[float, ...], mask: Array | None = None) -> dict[str, Array]:
    spare = _POINTS - len(labels)
    drawn = np.zeros((_MASK_SIDE, _MASK_SIDE)) if mask is None else mask
    return {
        "points": np.pad(points, ((0, spare), (0, 0))).astype(np.float32)[None],
        "labels": np.pad(labels, (0, spare), constant_values=FILLER).astype(np.float32)[None],
        "mask_input": drawn.astype(np.float32)[None, None],
        "has_mask": np.array([[mask is not None]], np.float32),
    }


def _ellipse(corners: Array) -> Array:
    """FP64 [256, 256] logits, positive in the ellipse that touches the box's sides."""
    centre, radii = corners.mean(axis=0), (corners[1] - corners[0]) / 2
    places = (np.arange(_MASK_SIDE) + 0.5) * (IMAGE_SIZE / _MASK_SIDE)
    x, y = ((places - centre[axis]) / radii[axis] for axis in range(2))
    return np.where(x[None] ** 2 + y[:, None] ** 2 < 1, _LOGIT, -_LOGIT)
