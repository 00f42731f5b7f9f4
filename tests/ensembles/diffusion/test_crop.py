"""Where a fill's working picture lies, and which pixels of the photo it changes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from nexus_ensembles.diffusion.crop import SHAPES, InpaintCrop, match_colours, working_sizes
from nexus_ensembles.imaging.decode import Photo
from nexus_ensembles.imaging.geometry import Box

from tests.ensembles.support.fakes import noise
from tests.ensembles.support.fill import mask_of, random_case


@pytest.mark.parametrize("seed", range(60))
def test_the_working_picture_has_sides_and_an_area_that_the_model_knows(seed: int) -> None:
    mask, side = random_case(seed)
    crop = InpaintCrop.around(mask, side)
    width, height = crop.size
    assert width % 64 == height % 64 == 0
    assert 0.75 * side**2 <= width * height <= side**2
    assert max(crop.size) <= 2.4 * min(crop.size)
    assert 1 <= crop.resized[0] <= width
    assert 1 <= crop.resized[1] <= height
    across, down = crop.resized[0] / crop.box.width, crop.resized[1] / crop.box.height
    # A whole pixel is the least that a thin photo can be shrunk to.
    if min(crop.resized) > 1:
        rounding = 1 + 0.5 / min(crop.resized)
        assert max(across / down, down / across) <= 1.25 * rounding


def test_the_working_shapes_are_few_and_near_those_of_sdxls_training() -> None:
    """So few that different photos share a batch; 4 : 3 photos are stretched by 1.037 at the most."""
    assert set(working_sizes(1024)) == {
        *SHAPES,
        *((height, width) for width, height in SHAPES),
    }
    assert [len(working_sizes(side)) for side in (256, 512, 1024)] == [5, 9, 9]
    crop = InpaintCrop.around(mask_of(768, 1024, (100, 700, 100, 900)), 1024)
    assert crop == InpaintCrop(Box(0, 0, 1024, 768), (1152, 896), (1152, 896))


@pytest.mark.parametrize("seed", range(60))
def test_the_crop_lies_in_the_photo_and_holds_the_hole(seed: int) -> None:
    mask, side = random_case(seed)
    box = InpaintCrop.around(mask, side).box
    assert 0 <= box.left < box.right <= mask.shape[1]
    assert 0 <= box.top < box.bottom <= mask.shape[0]
    assert np.count_nonzero(mask[box.slices]) == np.count_nonzero(mask)


@pytest.mark.parametrize(
    ("size", "side"),
    [((192, 320), 256), ((320, 192), 256), ((256, 256), 256), ((832, 1216), 1024), ((896, 1152), 1024)],
)
def test_a_photo_of_working_sides_is_used_as_it_is(size: tuple[int, int], side: int) -> None:
    height, width = size
    mask = mask_of(height, width, (height // 4, height // 2, width // 4, width // 2))
    crop = InpaintCrop.around(mask, side)
    assert crop == InpaintCrop(Box(0, 0, width, height), (width, height), (width, height))
    pixels = noise(height, width)
    np.testing.assert_array_equal(crop.apply_image(pixels), pixels)
    np.testing.assert_array_equal(crop.apply_mask(mask), mask)


def test_a_small_mask_of_12_megapixels_is_painted_at_native_detail() -> None:
    crop = InpaintCrop.around(mask_of(3000, 4000, (1400, 1500, 2000, 2100)), 1024)
    assert crop == InpaintCrop(Box(1538, 938, 2562, 1962), (1024, 1024), (1024, 1024))


def test_a_crop_at_the_edge_is_moved_inside() -> None:
    crop = InpaintCrop.around(mask_of(3000, 4000, (2990, 3000, 0, 10)), 1024)
    assert crop == InpaintCrop(Box(0, 1976, 1024, 3000), (1024, 1024), (1024, 1024))


def test_a_large_hole_gets_a_margin_and_is_shrunk() -> None:
    crop = InpaintCrop.around(mask_of(3000, 4000, (1000, 2000, 1000, 2200)), 1024)
    # a quarter of the hole on each side: 1800 x 1500 at the least
    assert crop.box.left <= 700
    assert crop.box.right >= 2500
    assert crop.box.top <= 750
    assert crop.box.bottom >= 2250
    # and no more than brings that to a working shape: 1.2 is a square
    assert crop.box.width * crop.box.height <= 1.2 * 1800 * 1500


def test_a_hole_that_spans_everything_takes_the_whole_photo() -> None:
    mask = ~mask_of(3000, 4000, (0, 1, 0, 1))
    crop = InpaintCrop.around(mask, 1024)
    assert crop == InpaintCrop(Box(0, 0, 4000, 3000), (1152, 896), (1152, 896))


def test_a_photo_much_longer_than_wide_is_extended_by_reflection_and_not_distorted() -> None:
    mask, pixels = mask_of(20, 3000, (0, 20, 0, 2990)), noise(20, 3000)
    crop = InpaintCrop.around(mask, 256)
    assert crop == InpaintCrop(Box(0, 0, 3000, 20), (320, 2), (320, 192))
    first, second, *mirrored = crop.apply_image(pixels)
    np.testing.assert_array_equal(mirrored[:4], [second, first, first, second])
    # its one known spot is known in every reflection
    assert (~crop.apply_mask(mask)).sum(axis=0).tolist() == [0] * 319 + [192]


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("channels", [3, 4])
def test_pixels_outside_the_hole_stay_and_its_middle_is_the_fill(seed: int, channels: int) -> None:
    mask, side = random_case(seed)
    height, width = mask.shape
    pixels = noise(height, width, channels)
    photo = Photo(
        np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3]) if channels == 4 else None
    )
    crop = InpaintCrop.around(mask, side)
    width, height = crop.size
    result = crop.paste(photo, mask, np.full((height, width, 3), 77, np.uint8))
    assert result.shape == pixels.shape
    np.testing.assert_array_equal(result[~mask], pixels[~mask])
    distance = cv2.distanceTransform(mask.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    deep = distance > 3 * max(1, crop.box.width / crop.resized[0])
    assert (result[deep] == (77, 77, 77, 255)[:channels]).all()
    # the very middle of a hole, however thin, is the fill
    if mask.any() and not mask.all():
        assert (result[distance == distance.max()] == (77, 77, 77, 255)[:channels]).all()


def test_the_fill_fades_in_over_three_working_pixels() -> None:
    mask = mask_of(256, 256, (100, 140, 0, 256))
    photo = Photo(np.zeros((256, 256, 3), np.uint8))
    result = InpaintCrop.around(mask, 256).paste(photo, mask, np.full((256, 256, 3), 90, np.uint8))
    assert result[98:106, 128, 0].tolist() == [0, 0, 30, 60, 90, 90, 90, 90]
    # and where four working pixels are one of the photo's, over twelve of those
    mask = mask_of(1024, 1024, (300, 900, 0, 1024))
    result = InpaintCrop.around(mask, 256).paste(
        Photo(np.zeros((1024, 1024, 3), np.uint8)), mask, np.full((256, 256, 3), 120, np.uint8)
    )
    assert result[299:313, 512, 0].tolist() == [0, *range(10, 121, 10), 120]


@pytest.mark.parametrize(("thickness", "profile"), [(1, [90]), (3, [90, 90, 90]), (5, [60, 90, 90, 90, 60])])
def test_thin_strokes_do_not_let_what_was_there_shine_through(thickness: int, profile: list[int]) -> None:
    mask = mask_of(256, 256, (100, 100 + thickness, 0, 256))
    photo = Photo(np.zeros((256, 256, 3), np.uint8))
    result = InpaintCrop.around(mask, 256).paste(photo, mask, np.full((256, 256, 3), 90, np.uint8))
    assert result[100 : 100 + thickness, 128, 0].tolist() == profile


def test_what_was_transparent_lends_the_seam_no_colour() -> None:
    mask = mask_of(256, 256, (100, 140, 0, 256))
    photo = Photo(np.full((256, 256, 3), 200, np.uint8), np.zeros((256, 256), np.uint8))
    result = InpaintCrop.around(mask, 256).paste(photo, mask, np.full((256, 256, 3), 90, np.uint8))
    assert (result[mask][:, :3] == 90).all()
    assert result[98:106, 128, 3].tolist() == [0, 0, 85, 170, 255, 255, 255, 255]


def test_colours_are_matched_on_the_surroundings() -> None:
    mask = mask_of(256, 256, (100, 150, 100, 150))
    picture = np.asarray(cv2.GaussianBlur(noise(256, 256), (0, 0), 3), np.uint8)
    # a fill that is the photo itself, each channel off in its own way
    off = picture * np.array([0.9, 1.1, 1.0]) + np.array([5, -10, 20])
    matched = match_colours(np.rint(off).astype(np.uint8), picture, mask)
    # rounding twice, and the one level that keeps flat surroundings from a meaningless gain
    assert np.abs(matched.astype(int) - picture).mean() < 1
    assert np.abs(off - picture).mean() > 5


def test_the_gain_is_bounded() -> None:
    mask = mask_of(256, 256, (100, 150, 100, 150))
    picture = np.where(noise(256, 256) > 127, 140, 116).astype(np.uint8)
    fill = noise(256, 256)
    matched = match_colours(fill, picture, mask)
    assert matched[mask].std() == pytest.approx(0.8 * fill[mask].std(), rel=0.02)  # rounding and clipping


def test_without_surroundings_colours_stay() -> None:
    fill = noise(64, 64)
    assert match_colours(fill, fill, np.ones((64, 64), np.bool_)) is fill
