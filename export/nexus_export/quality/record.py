"""The figures of an artifact, and quality.json, which keeps them beside it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_export.artifacts import digests
from nexus_export.networks import Precision
from nexus_export.quality.gate import Verdict
from nexus_export.quality.simulation import SIMULATED
from nexus_export.quality.speed import Speed


@dataclass(frozen=True)
class Quality:
    """How good an artifact is: means over `samples`, and the largest difference of them all.

    `simulated`: its FP16 tensors were rounded as a GPU does, see `simulation`.
    """

    network: str
    precision: Precision
    samples: int
    max_abs: float
    psnr_db: float
    ssim: float
    verdict: Verdict
    fault: str | None
    simulated: bool

    @property
    def passed(self) -> bool:
        return self.fault is None and self.verdict.passed

    def complaint(self) -> str:
        """One sentence on what is wrong."""
        reason = self.verdict.words() if self.fault is None else f"its output {self.fault}"
        return f"{self.network} at {self.precision} is not good enough ({reason})"


@dataclass(frozen=True)
class Record:
    """`reference` names the artifact's FP32 reference: torch, or the published ONNX file."""

    quality: Quality
    speed: Speed
    reference: str
    photos: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """The figures for JSON, with four digits."""
        quality, speed = self.quality, self.speed
        return {
            "network": quality.network,
            "precision": quality.precision,
            "reference": self.reference,
            "arithmetic": SIMULATED if quality.simulated else "FP32",
            "photos": list(self.photos),
            "rows": quality.samples,
            "gate": {
                "metric": quality.verdict.metric,
                "value": _rounded(quality.verdict.value),
                "worst": _rounded(quality.verdict.worst),
                "bound": quality.verdict.bound,
                "passed": quality.passed,
            },
            "fault": quality.fault,
            "max_abs": _rounded(quality.max_abs),
            "psnr_db": _rounded(quality.psnr_db),
            "ssim": _rounded(quality.ssim),
            "bytes": speed.bytes,
            "fp32_bytes": speed.fp32_bytes,
            "size_ratio": _rounded(speed.size_ratio),
            "cpu_seconds": _rounded(speed.seconds),
            "cpu_fp32_seconds": _rounded(speed.fp32_seconds),
            "cpu_latency_ratio": _rounded(speed.latency_ratio),
        }

    def text(self, path: Path) -> str:
        """The file's text, for the artifact at `path`."""
        return json.dumps({**self.figures(), "onnx_sha256": digests(path)}, indent=2) + "\n"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
