"""Dilation, padding and pasting; crops are in test_crops."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from nexus_ensembles.imaging import geometry

from tests.ensembles.support.fakes import noise

Bool = npt.NDArray[np.bool_]


def test_dilation_by_3_is_a_cross() -> None:
    mask = np.zeros((5, 5), np.bool_)
    mask[2, 2] = True
    np.testing.assert_array_equal(
        geometry.dilate(mask, 3).astype(int),
        [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]],
    )


@pytest.mark.parametrize("size", [*range(2, 20), 33, 64, 101, 255])
@pytest.mark.parametrize("share", [0.001, 0.02, 0.4])
def test_dilation_equals_that_of_opencv(size: int, share: float) -> None:
    random = np.random.default_rng(size)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))
    for height, width in [(1, 1), (1, 90), (70, 1), (40, 57), (130, 99)]:
        mask = random.random((height, width)) < share
        expected = cv2.dilate(mask.astype(np.uint8), kernel).astype(np.bool_)
        np.testing.assert_array_equal(geometry.dilate(mask, size), expected)


@pytest.mark.parametrize(("width", "height"), [(3, 9), (9, 3), (33, 9), (64, 5), (2, 31), (8, 9)])
def test_dilation_by_an_ellipse_of_two_axes_equals_that_of_opencv(width: int, height: int) -> None:
    mask = np.random.default_rng(width).random((99, 130)) < 0.02
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, height))
    expected = cv2.dilate(mask.astype(np.uint8), kernel).astype(np.bool_)
    np.testing.assert_array_equal(geometry.dilate(mask, width, height), expected)


@pytest.mark.parametrize("size", [0, 1])
def test_no_dilation(size: int) -> None:
    mask = np.eye(9, dtype=np.bool_)
    np.testing.assert_array_equal(geometry.dilate(mask, size), mask)


@pytest.mark.parametrize("shape", [(8, 8), (1, 1), (7, 9), (16, 3), (100, 65)])
def test_padding_reflects_up_to_the_multiple(shape: tuple[int, int]) -> None:
    pixels = noise(*shape)
    padded = geometry.pad_to_multiple(pixels, 8)
    height, width = shape
    assert padded.shape[0] % 8 == padded.shape[1] % 8 == 0
    assert 0 <= padded.shape[0] - height < 8
    assert 0 <= padded.shape[1] - width < 8
    np.testing.assert_array_equal(padded[:height, :width], pixels)
    for row in range(height, min(padded.shape[0], 2 * height)):
        np.testing.assert_array_equal(padded[row, :width], pixels[2 * height - 1 - row])
    for column in range(width, min(padded.shape[1], 2 * width)):
        np.testing.assert_array_equal(padded[:height, column], pixels[:, 2 * width - 1 - column])


def test_a_multiple_is_not_padded() -> None:
    pixels = noise(16, 24)
    assert geometry.pad_to_multiple(pixels, 8) is pixels


def test_paste_takes_the_mask_whole_and_leaves_the_rest() -> None:
    canvas, fill = noise(40, 40), np.full((40, 40, 3), 200, np.uint8)
    before = canvas.copy()
    mask = np.zeros((40, 40), np.bool_)
    mask[15:25, 15:25] = True
    dilated_mask = geometry.dilate(mask, 9)
    geometry.paste(canvas, fill, mask, dilated_mask)
    np.testing.assert_array_equal(canvas[mask], fill[mask])
    np.testing.assert_array_equal(canvas[~dilated_mask], before[~dilated_mask])


def test_paste_fades_with_the_distance_from_the_mask() -> None:
    canvas, fill = np.zeros((41, 41, 3), np.uint8), np.full((41, 41, 3), 250, np.uint8)
    mask = np.zeros((41, 41), np.bool_)
    mask[:, :10] = True
    dilated_mask = np.zeros((41, 41), np.bool_)
    dilated_mask[:, :20] = True  # a ring of distances 1 to 10
    geometry.paste(canvas, fill, mask, dilated_mask)
    # weight 1 - d / 11 of 250, rounded
    assert canvas[20, 9:21, 0].tolist() == [250, 227, 205, 182, 159, 136, 114, 91, 68, 45, 23, 0]


def test_paste_without_a_ring() -> None:
    canvas, fill = noise(9, 9), np.full((9, 9, 3), 5, np.uint8)
    before = canvas.copy()
    mask = np.eye(9, dtype=np.bool_)
    geometry.paste(canvas, fill, mask, mask)
    np.testing.assert_array_equal(canvas, np.where(mask[..., None], fill, before))
