"""The mask that the networks of a fill get, from the caller's."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from nexus_ensembles.diffusion.crop import InpaintCrop, latent_mask, masked_image
from nexus_ensembles.imaging.decode import Photo

from tests.ensembles.support.fakes import noise
from tests.ensembles.support.fill import mask_of, random_case


@pytest.mark.parametrize("seed", range(30))
def test_every_working_pixel_that_holds_any_of_the_hole_is_masked(seed: int) -> None:
    mask, side = random_case(seed)
    crop = InpaintCrop.around(mask, side)
    seen = crop.apply_mask(mask)[: crop.resized[1], : crop.resized[0]]
    rows, columns = np.nonzero(mask[crop.box.slices])
    # the working pixel in which each pixel's middle lies
    rows = ((rows + 0.5) * crop.resized[1] / crop.box.height).astype(int)
    columns = ((columns + 0.5) * crop.resized[0] / crop.box.width).astype(int)
    assert seen[rows, columns].all()


@pytest.mark.parametrize("angle", [0, 20, 45, 70, 90])
def test_a_thin_stroke_is_one_piece_in_the_latent_mask(angle: int) -> None:
    drawn, turn = np.zeros((512, 512), np.uint8), np.deg2rad(angle)
    way = np.array([np.cos(turn), np.sin(turn)]) * 150
    start, end = (np.rint(np.array([259, 259]) + sign * way).astype(int).tolist() for sign in (-1, 1))
    cv2.line(drawn, start, end, (1,), 2)
    crop = InpaintCrop.around(drawn.view(np.bool_), 512)
    latents = latent_mask(crop.apply_mask(drawn.view(np.bool_)))[0]
    pieces, _ = cv2.connectedComponents(latents.astype(np.uint8))
    assert pieces == 2  # the stroke and the background
    # 300 pixels are 37 latents along an axis
    assert latents.sum() >= 37


@pytest.mark.parametrize("thickness", range(1, 9))
@pytest.mark.parametrize("side", [256, 512])
def test_a_thin_stroke_masks_exactly_the_latents_it_touches(thickness: int, side: int) -> None:
    """At every edge, and in the middle from each of the eight offsets to a latent's cell; 8 pixels only aligned."""
    middle = range(side // 2, side // 2 + 8) if thickness < 8 else [side // 2]
    for first in (0, side - thickness, *middle):
        stroke = mask_of(side, side, (first, first + thickness, 0, side // 2))
        for mask in (stroke, stroke.T):
            working = InpaintCrop.around(mask, side).apply_mask(mask)
            touched = mask.reshape(side // 8, 8, side // 8, 8).any(axis=(1, 3))
            np.testing.assert_array_equal(latent_mask(working)[0], touched)
            assert working[mask].all()


def test_a_dot_in_a_corner_is_in_the_latent_mask_and_alone_is_pasted() -> None:
    mask = mask_of(256, 256, (255, 256, 255, 256))
    crop = InpaintCrop.around(mask, 256)
    assert np.argwhere(latent_mask(crop.apply_mask(mask))[0]).tolist() == [[31, 31]]
    pasted = crop.paste(Photo(np.minimum(noise(256, 256), 99)), mask, np.full((256, 256, 3), 200, np.uint8))
    assert np.argwhere(pasted[..., 0] == 200).tolist() == [[255, 255]]


def test_the_latent_mask_is_diffusers_nearest_sample() -> None:
    mask = noise(64, 128, 1)[..., 0] > 127
    latents = latent_mask(mask)
    assert latents.shape == (1, 8, 16)
    assert latents.dtype == np.float32
    np.testing.assert_array_equal(latents[0], mask[::8, ::8])


def test_the_encoder_sees_grey_under_the_mask() -> None:
    pixels, mask = noise(64, 64), mask_of(64, 64, (10, 20, 10, 30))
    masked = masked_image(pixels, mask)
    assert (masked[mask] == 128).all()
    np.testing.assert_array_equal(masked[~mask], pixels[~mask])
