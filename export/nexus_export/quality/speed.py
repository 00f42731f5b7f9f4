"""Size and latency of an artifact beside its FP32 form, measured together."""

import time
from dataclasses import dataclass
from pathlib import Path

from nexus_export.artifacts import file_bytes
from nexus_export.quality.rows import Row
from nexus_export.runs import onnx_run

#: Of each file in turn; the quickest run counts, since other load only ever adds to one.
_RUNS = 2


@dataclass(frozen=True)
class Speed:
    """Bytes on the disk, and seconds of one run of a batch of 1 in onnxruntime on this machine's CPU."""

    bytes: int
    fp32_bytes: int
    seconds: float
    fp32_seconds: float

    @property
    def size_ratio(self) -> float:
        return self.bytes / self.fp32_bytes

    @property
    def latency_ratio(self) -> float:
        return self.seconds / self.fp32_seconds


def measure_speed(path: Path, fp32: Path, row: Row) -> Speed:
    """Run both files on the same row, in turn; the same file is run once."""
    runs = [onnx_run(file) for file in dict.fromkeys((path, fp32))]
    best = [float("inf")] * len(runs)
    for repeat in range(1 + _RUNS):
        for index, run in enumerate(runs):
            started = time.perf_counter()
            run(row)
            if repeat:  # the first one makes room and packs weights
                best[index] = min(best[index], time.perf_counter() - started)
    return Speed(file_bytes(path), file_bytes(fp32), best[0], best[-1])
