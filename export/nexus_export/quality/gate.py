"""What an artifact must reach to enter the repository."""

from collections.abc import Sequence
from dataclasses import dataclass

from nexus_export.networks import Network, Precision
from nexus_export.quality.comparison import Figures

#: FP32 against FP32 differs by rounding alone: in floats by this much, or by this share of the largest value where that
#: is more than 1; in UINT8 by one level.
FP32_FLOAT, FP32_LEVELS = 1e-3, 1.0

_LESS_IS_BETTER = {"max_abs", "alpha_mean_abs", "levels_abs"}


@dataclass(frozen=True)
class Verdict:
    """A figure beside its bound; `worst` is the figure of the worst row, `value` what the bound is for."""

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
    "max_abs": "max abs",
    "mask_iou": "mask IoU",
    "alpha_mean_abs": "alpha mean abs in levels",
    "hole_psnr_db": "PSNR of the hole in dB",
    "psnr_db": "PSNR in dB",
    "levels_abs": "max abs in levels",
}


def judge(
    network: Network, precision: Precision, max_abs: float, largest: float, rows: Sequence[Figures]
) -> Verdict:
    """Hold a network's figures to its gate; `largest` is the reference's largest magnitude.

    FP32 is held to its largest difference; lower precisions to the network's metric, averaged over the rows, but for
    `psnr_db`, of which every row must do: the errors of a UNet's timesteps, and of what feeds them, add up.
    """
    if precision == "fp32":
        levels = all(tensor.dtype == "UINT8" for tensor in network.outputs)
        return Verdict("max_abs", max_abs, max_abs, FP32_LEVELS if levels else FP32_FLOAT * max(1.0, largest))
    metric = network.gate.metric
    values = [row.metric for row in rows]
    worst = max(values) if metric in _LESS_IS_BETTER else min(values)
    value = worst if metric == "psnr_db" else sum(values) / len(values)
    return Verdict(metric, value, worst, network.gate.bounds[precision])
