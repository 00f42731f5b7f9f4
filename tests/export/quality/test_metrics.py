"""The figures of quality against values worked out by hand, and SSIM against scikit-image's published example of it."""

from typing import Any

import cv2
import numpy as np
import pytest
from nexus_export.networks import NETWORKS
from nexus_export.quality import comparison, metrics
from nexus_export.quality.comparison import Difference, Figures
from nexus_export.quality.gate import FP32_FLOAT, judge
from numpy.typing import NDArray


def test_psnr_relates_to_the_range() -> None:
    levels = np.zeros((4, 4), np.uint8)
    # An error of 1 level everywhere: 20 log10(255).
    assert metrics.psnr_db(levels, levels + np.uint8(1)) == pytest.approx(48.1308, abs=1e-4)
    floats = np.linspace(-1, 3, 100, dtype=np.float32)
    assert metrics.psnr_db(floats, floats + np.float32(0.04)) == pytest.approx(40, abs=1e-3)
    assert metrics.psnr_db(floats, floats) == metrics.MAX_PSNR_DB


def test_psnr_of_a_hole_sees_nothing_else() -> None:
    one = np.zeros((3, 4, 4), np.uint8)
    other = one.copy()
    other[:, 0, 0] = 255
    hole = np.zeros((1, 4, 4), np.bool_)
    hole[0, 2:] = True
    assert metrics.psnr_db(one, other, hole) == metrics.MAX_PSNR_DB
    assert metrics.psnr_db(one, other, ~hole) == pytest.approx(10 * np.log10(8), abs=1e-6)


def test_iou() -> None:
    one, other = np.zeros((2, 4), np.bool_), np.zeros((2, 4), np.bool_)
    assert metrics.mask_iou(one, other) == 1
    one[0], other[0, 2:], other[1, :2] = True, True, True
    assert metrics.mask_iou(one, other) == pytest.approx(2 / 6)


def test_alpha_is_told_in_levels() -> None:
    assert metrics.mean_abs_levels(np.zeros(5), np.full(5, 2 / 255)) == pytest.approx(2)


def test_ssim_is_wang_s() -> None:
    """The same by OpenCV's blur, which is another implementation of the same window."""
    rng = np.random.default_rng(0)
    a = cv2.GaussianBlur(rng.uniform(0, 255, (40, 50)), (0, 0), 2)
    b = a + rng.normal(0, 5, a.shape)

    def blur(x: Any) -> NDArray[np.float64]:
        return np.asarray(cv2.GaussianBlur(x, (11, 11), 1.5), np.float64)[5:-5, 5:-5]

    peak = np.ptp(a)
    mean_a, mean_b = blur(a), blur(b)
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    top = (2 * mean_a * mean_b + c1) * (2 * (blur(a * b) - mean_a * mean_b) + c2)
    bottom = (mean_a**2 + mean_b**2 + c1) * (blur(a * a) - mean_a**2 + blur(b * b) - mean_b**2 + c2)
    # Both FP64: rounding is all there may be between them.
    assert metrics.ssim(a, b) == pytest.approx(float((top / bottom).mean()), abs=1e-9)
    assert metrics.ssim(a, a) == pytest.approx(1, abs=1e-12)


def test_worthless_outputs_are_named() -> None:
    good = {"alpha": np.linspace(0, 1, 8, dtype=np.float32)[None]}
    assert comparison.fault(good, good) is None
    assert comparison.fault(good, {"alpha": np.full((1, 8), np.nan, np.float32)}) == "alpha is not finite"
    assert comparison.fault(good, {"alpha": np.full((1, 8), 0.5, np.float32)}) == "alpha is flat"
    # Flat where the reference is flat is right.
    flat = {"alpha": np.zeros((1, 8), np.float32)}
    assert comparison.fault(flat, flat) is None


def _figures(*values: float) -> list[Figures]:
    return [Figures(50, 1, value) for value in values]


def test_gates_hold_means_and_a_unet_every_sample() -> None:
    lama = judge(NETWORKS["lama"], "fp16", [], _figures(44, 50))
    assert (lama.value, lama.worst, lama.bound, lama.passed) == (47, 44, 45.0, True)
    unet = judge(NETWORKS["sdxl_unet"], "int8", [], _figures(29, 50))
    assert (unet.value, unet.bound, unet.passed) == (29, 30.0, False)
    alpha = judge(NETWORKS["u2net"], "int8", [], _figures(3, 6))
    assert (alpha.value, alpha.worst, alpha.passed) == (4.5, 6, False)
    assert alpha.words() == "alpha mean abs in levels 4.5, at most 4 is wanted"


def test_fp32_is_held_to_its_largest_difference() -> None:
    def passes(name: str, *differences: Difference) -> bool:
        return judge(NETWORKS[name], "fp32", differences, _figures(0)).passed

    assert passes("u2net", Difference(FP32_FLOAT, 1))
    assert not passes("u2net", Difference(2 * FP32_FLOAT, 1))
    # Of outputs up to 20, rounding is 20 times as large; of small ones it is as small as of 1.
    assert passes("sdxl_unet", Difference(2 * FP32_FLOAT, 20))
    assert passes("sdxl_unet", Difference(FP32_FLOAT, 0.1))
    assert passes("lama", Difference(1, 255))
    assert not passes("lama", Difference(2, 255))


def test_fp32_scores_are_not_judged_by_logits() -> None:
    """SAM's logits go up to 30, its scores to 1: each output is held to its own size."""
    reference = [{"masks": np.full((1, 2), 30.0), "scores": np.full((1, 2), size)} for size in (0.5, 0.9)]
    found = [{**row, "scores": row["scores"] + 0.01} for row in reference]
    differences = comparison.differences(reference, found)
    verdict = judge(NETWORKS["sam_decoder"], "fp32", differences, _figures(1))
    assert [difference.magnitude for difference in differences] == [30, 0.9]
    assert verdict.value == pytest.approx(0.01)
    assert not verdict.passed
    assert verdict.words() == "max abs relative to its output 0.01, at most 0.001 is wanted"
