"""Small regions of a mask, and which of them stay."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from nexus_ensembles.imaging.regions import drop_small_regions

Bool = npt.NDArray[np.bool_]


def logits_of(mask: Bool) -> npt.NDArray[np.float32]:
    return np.where(mask, np.float32(3), np.float32(-3))


def test_specks_are_dropped_and_holes_filled_below_the_area() -> None:
    mask = np.zeros((60, 60), np.bool_)
    mask[5:35, 5:35] = True
    mask[10:13, 10:13] = False  # a hole of 9
    mask[20:24, 20:24] = False  # a hole of 16
    mask[40:43, 40:43] = True  # a speck of 9
    mask[50:54, 50:54] = True  # a speck of 16
    expected = mask.copy()
    expected[10:13, 10:13] = True
    expected[40:43, 40:43] = False
    logits = logits_of(mask)
    np.testing.assert_array_equal(drop_small_regions(logits, 10) > 0, expected)
    np.testing.assert_array_equal(drop_small_regions(logits, 9) > 0, mask)
    for untouched in (0, 1):
        assert drop_small_regions(logits, untouched) is logits


def test_diagonal_neighbours_are_one_region() -> None:
    assert np.count_nonzero(drop_small_regions(logits_of(np.eye(12, dtype=np.bool_)), 12) > 0) == 12


def test_the_largest_speck_stays_when_all_are_small() -> None:
    mask = np.zeros((30, 30), np.bool_)
    mask[2:4, 2:4] = True
    mask[10:13, 10:13] = True
    kept = drop_small_regions(logits_of(mask), 1000) > 0
    assert kept[10:13, 10:13].all()
    assert np.count_nonzero(kept) == 9


def test_nothing_selected_stays_nothing() -> None:
    assert not (drop_small_regions(np.full((9, 9), -1, np.float32), 100) > 0).any()


def test_the_surroundings_are_no_hole_however_large_the_area() -> None:
    mask = np.zeros((30, 30), np.bool_)
    mask[2:12, 2:12] = True
    mask[5, 5] = False
    mask[20, 20] = True
    expected = np.zeros((30, 30), np.bool_)
    expected[2:12, 2:12] = True
    np.testing.assert_array_equal(drop_small_regions(logits_of(mask), 2**31 - 1) > 0, expected)


def test_slivers_between_a_region_and_the_edge_are_holes() -> None:
    mask = np.ones((40, 40), np.bool_)
    mask[:, :10] = False  # the surroundings
    mask[0:3, 20:23] = False  # 9 at the top
    mask[30:34, 36:40] = False  # 16 at the right
    mask[39, 30] = False  # one at the bottom
    expected = mask.copy()
    expected[0:3, 20:23] = expected[39, 30] = True
    np.testing.assert_array_equal(drop_small_regions(logits_of(mask), 10) > 0, expected)
    expected[30:34, 36:40] = True
    np.testing.assert_array_equal(drop_small_regions(logits_of(mask), 2**31 - 1) > 0, expected)


def test_the_only_background_stays_however_small() -> None:
    mask = np.ones((20, 20), np.bool_)
    mask[:2, :2] = False
    assert drop_small_regions(logits_of(mask), 100)[:2, :2].max() < 0


def test_a_hole_that_is_filled_counts_towards_its_region() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[2:6, 2:6] = True
    mask[3:5, 3:5] = False  # a ring of 12 around 4: together 16
    mask[10:20, 10:20] = True
    kept = drop_small_regions(logits_of(mask), 16) > 0
    assert kept[2:6, 2:6].all()
