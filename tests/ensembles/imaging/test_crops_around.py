"""crops_around: properties that hold for every mask, checked on a few hundred."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from nexus_ensembles.cleanup import CROP_MARGIN, CROP_SMALLEST, CROP_STEP, CROPS_MOST
from nexus_ensembles.imaging import geometry

Bool = npt.NDArray[np.bool_]
SEEDS = range(300)


def crops_of(hole: Bool) -> list[geometry.Box]:
    return geometry.crops_around(
        hole, margin=CROP_MARGIN, smallest=CROP_SMALLEST, step=CROP_STEP, most=CROPS_MOST
    )


def random_hole(seed: int) -> Bool:
    """One to twelve rectangles on a photo of 1 to 3000 pixels a side."""
    random = np.random.default_rng(seed)
    height, width = (int(np.exp(random.uniform(0, np.log(3000)))) for _ in range(2))
    hole = np.zeros((height, width), np.bool_)
    for _ in range(random.integers(1, 13)):
        top, left = random.integers(0, height), random.integers(0, width)
        tall, wide = (int(np.exp(random.uniform(0, np.log(side + 1)))) for side in (height, width))
        hole[top : top + tall, left : left + wide] = True
    return hole


@pytest.mark.parametrize("part", range(10))
def test_crops_hold_every_hole_whole_and_apart(part: int) -> None:
    for seed in SEEDS[part::10]:
        hole = random_hole(seed)
        height, width = hole.shape
        crops = crops_of(hole)
        assert 1 <= len(crops) <= CROPS_MOST
        covered = np.zeros(hole.shape, np.int32)
        for crop in crops:
            assert 0 <= crop.left < crop.right <= width
            assert 0 <= crop.top < crop.bottom <= height
            covered[crop.slices] += 1
        assert covered.max() == 1  # apart
        assert (covered[hole] == 1).all()  # every pixel of the hole, once
        assert not any(a.overlaps(b) for a, b in itertools.combinations(crops, 2))


@pytest.mark.parametrize("part", range(10))
def test_crops_give_every_region_its_surroundings(part: int) -> None:
    for seed in SEEDS[part::10]:
        hole = random_hole(seed)
        height, width = hole.shape
        crops = crops_of(hole)
        _, _, stats, _ = cv2.connectedComponentsWithStats(hole.view(np.uint8))
        for x, y, w, h, _ in stats[1:].tolist():
            (crop,) = [
                c for c in crops if c.left <= x and x + w <= c.right and c.top <= y and y + h <= c.bottom
            ]
            for low, high, length, limit in (
                (x - crop.left, crop.right - x - w, crop.width, width),
                (y - crop.top, crop.bottom - y - h, crop.height, height),
            ):
                assert length == limit or (length % CROP_STEP == 0 and length >= CROP_SMALLEST)
                # Both margins together; a region at the photo's edge gets its surroundings from the other side.
                assert length == limit or low + high >= 2 * CROP_MARGIN


def test_a_small_hole_is_in_the_middle_of_the_smallest_crop() -> None:
    hole = np.zeros((3000, 4000), np.bool_)
    hole[1000:1040, 2000:2020] = True
    (crop,) = crops_of(hole)
    assert (crop.width, crop.height) == (512, 512)
    assert (crop.left + crop.right, crop.top + crop.bottom) == (2 * 2010, 2 * 1020)


def test_a_crop_is_moved_inside_the_photo() -> None:
    hole = np.zeros((3000, 4000), np.bool_)
    hole[2990:, :10] = True
    assert crops_of(hole) == [geometry.Box(0, 2488, 512, 3000)]


def test_a_large_hole_gets_half_its_size_on_every_side() -> None:
    hole = np.zeros((4000, 4000), np.bool_)
    hole[1000:2000, 1500:2100] = True  # 1000 high -> 2000, 600 wide -> 1200, both rounded up to the step
    (crop,) = crops_of(hole)
    assert (crop.width, crop.height) == (1280, 2048)


def test_far_holes_get_crops_of_their_own_and_near_ones_share() -> None:
    hole = np.zeros((3000, 4000), np.bool_)
    hole[100:110, 100:110] = True
    hole[2900:2910, 3900:3910] = True
    assert len(crops_of(hole)) == 2
    hole[300:310, 300:310] = True
    assert len(crops_of(hole)) == 2


@pytest.mark.parametrize("spacing", [700, 40, 2])
def test_more_holes_than_allowed_share_one_crop(spacing: int) -> None:
    hole = np.zeros((3000, 4000), np.bool_)
    hole[::spacing, ::spacing] = True
    (crop,) = crops_of(hole)
    assert (crop.width, crop.height) == (4000, 3000)


def test_a_photo_smaller_than_the_smallest_crop_is_one_crop() -> None:
    hole = np.zeros((37, 300), np.bool_)
    hole[5, 5] = True
    assert crops_of(hole) == [geometry.Box(0, 0, 300, 37)]
