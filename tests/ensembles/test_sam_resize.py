"""SAM's resize, and the cells of both; more of SAM 2's is in test_sam."""

from __future__ import annotations

import numpy as np
import pytest
from nexus_ensembles.sam import PIXEL_MEAN, ResizeLongestSide, ResizeToSquare

from tests.ensembles.support.fakes import noise


@pytest.mark.parametrize(
    ("size", "resized"),
    [
        ((1024, 1024), (1024, 1024)),
        ((2048, 1024), (1024, 512)),
        ((640, 480), (1024, 768)),
        ((480, 640), (768, 1024)),
        ((4000, 3000), (1024, 768)),
        ((451, 300), (1024, 681)),  # 300 * 1024 / 451 = 681.15
        ((1000, 333), (1024, 341)),  # 340.99, rounded to the nearest as SAM does
        ((1, 1), (1024, 1024)),
        ((65_535, 1), (1024, 1)),  # never less than a pixel
    ],
)
def test_the_longest_side_becomes_1024_at_the_photo_s_ratio(
    size: tuple[int, int], resized: tuple[int, int]
) -> None:
    assert ResizeLongestSide(*size).resized == resized


def test_the_photo_is_top_left_on_the_mean_colour() -> None:
    photo = noise(512, 1024)
    square = ResizeLongestSide(1024, 512).apply_image(photo)
    assert square.shape == (1024, 1024, 3)
    assert square.dtype == np.uint8
    np.testing.assert_array_equal(square[:512], photo)
    assert (square[512:] == PIXEL_MEAN).all()


def test_coords_scale_with_the_photo() -> None:
    resize = ResizeLongestSide(2000, 1000)
    points = resize.apply_coords(np.array([[0, 0], [2000, 1000], [500, 250]], np.float32))
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, [[0, 0], [1024, 512], [256, 128]])


@pytest.mark.parametrize("size", [(640, 480), (300, 451), (1024, 1024), (2000, 1500), (97, 31)])
def test_a_mask_survives_the_round_trip_through_the_square(size: tuple[int, int]) -> None:
    """A rectangle drawn in the low-resolution logits comes back where the photo has it."""
    resize = ResizeLongestSide(*size)
    width, height = resize.resized
    logits = np.full((256, 256), -1, np.float32)
    logits[: height // 8, : width // 8] = (
        1  # the photo's upper left quarter: half of `resized`, in cells of 4
    )
    mask = resize.to_mask(resize.upsample(logits))
    assert mask.shape == size[::-1]
    expected = np.zeros(size[::-1], np.bool_)
    expected[: round(size[1] / 2), : round(size[0] / 2)] = True
    # An edge may lie anywhere within a cell of 4 pixels of the square.
    cell = 4 * max(size) / 1024 + 1
    assert np.count_nonzero(mask ^ expected) <= cell * (size[0] + size[1]) / 2


def test_logits_below_the_photo_are_ignored() -> None:
    logits = np.full((256, 256), -1, np.float32)
    logits[128:] = 1
    assert not ResizeLongestSide(1024, 500).to_mask(ResizeLongestSide(1024, 500).upsample(logits)).any()


@pytest.mark.parametrize(
    ("size", "longest_side", "square"),
    [
        ((1024, 1024), (4, 4), (4, 4)),
        ((2048, 512), (8, 8), (8, 2)),
        ((512, 2049), (9, 9), (2, 9)),
        ((100, 60), (1, 1), (1, 1)),
    ],
)
def test_the_cell_of_each_resize(
    size: tuple[int, int], longest_side: tuple[int, int], square: tuple[int, int]
) -> None:
    assert ResizeLongestSide(*size).cell == longest_side
    assert ResizeToSquare(*size).cell == square
