"""What was measured of an artifact, as it is kept beside it in quality.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nexus_export.artifacts import digests
from nexus_export.quality.simulation import SIMULATED
from nexus_export.quality.speed import Speed
from nexus_export.quality.verify import Quality


@dataclass(frozen=True)
class Record:
    """`reference` is what the artifact was compared with: torch, or the published ONNX file."""

    quality: Quality
    speed: Speed
    reference: str
    photos: tuple[str, ...]

    def figures(self) -> dict[str, Any]:
        """The figures as JSON has them, rounded to what they are known to."""
        quality, speed = self.quality, self.speed
        return {
            "network": quality.network,
            "precision": quality.precision,
            "reference": self.reference,
            "arithmetic": SIMULATED if quality.simulated else "FP32",
            "photos": list(self.photos),
            "rows": quality.rows,
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
