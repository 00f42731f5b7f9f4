"""Holds an artifact's figures to the bounds that let it into the repository."""

from collections.abc import Sequence
from dataclasses import dataclass

from nexus_export.networks import Network, Precision
from nexus_export.quality.comparison import Difference, Figures

# FP32 against FP32 differs by rounding alone: a float output by this share of its largest value, see
# `Difference.relative`; UINT8 by one level.
FP32_FLOAT, FP32_LEVELS = 1e-3, 1.0

_LESS_IS_BETTER = {"max_abs", "max_relative", "alpha_mean_abs"}


@dataclass(frozen=True)
class Verdict:
    """A figure beside its bound; the bound is for `value`, `worst` is the figure of the worst sample."""

    metric: str
    value: float
    worst: float
    bound: float

    @property
    def passed(self) -> bool:
        if self.metric in _LESS_IS_BETTER:
            return self.value <= self.bound
        return self.value >= self.bound

    def words(self) -> str:
        """ "mask IoU 0.912, at least 0.95 is wanted"."""
        limit = "at most" if self.metric in _LESS_IS_BETTER else "at least"
        return f"{METRIC_TITLES[self.metric]} {self.value:.4g}, {limit} {self.bound:.4g} is wanted"


METRIC_TITLES = {
    "max_abs": "max abs in levels",
    "max_relative": "max abs relative to its output",
    "mask_iou": "mask IoU",
    "alpha_mean_abs": "alpha mean abs in levels",
    "hole_psnr_db": "PSNR of the hole in dB",
    "psnr_db": "PSNR in dB",
}


def judge(
    network: Network, precision: Precision, differences: Sequence[Difference], figures: Sequence[Figures]
) -> Verdict:
    """Hold a network to its gate: `differences` are of its outputs, `figures` of its samples.

    FP32 is held to the largest difference; lower precisions to the network's metric, averaged over the samples. With
    `psnr_db` every sample must reach the bound: the errors of a UNet's timesteps, and of its inputs, add up.
    """
    if precision == "fp32":
        if all(tensor.dtype == "UINT8" for tensor in network.outputs):
            worst = max(one.max_abs for one in differences)
            return Verdict("max_abs", worst, worst, FP32_LEVELS)
        worst = max(one.relative for one in differences)
        return Verdict("max_relative", worst, worst, FP32_FLOAT)
    metric = network.gate.metric
    values = [each.metric for each in figures]
    worst = max(values) if metric in _LESS_IS_BETTER else min(values)
    value = worst if metric == "psnr_db" else sum(values) / len(values)
    return Verdict(metric, value, worst, network.gate.bounds[precision])
