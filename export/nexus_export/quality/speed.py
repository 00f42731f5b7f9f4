"""Size and latency of an artifact beside its FP32 form, measured together."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nexus_export.artifacts import file_bytes
from nexus_export.exported import InferenceFn
from nexus_export.inference import onnx_run
from nexus_export.onnx_graphs.writing import INLINE_BYTES
from nexus_export.quality.rows import Row

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
    """Run both files on the same row; the same file is run once.

    They run in turn where both are small, so that other load falls on both; of large ones one is in memory at a time.
    """
    sizes = {file: file_bytes(file) for file in (path, fp32)}
    if sum(sizes.values()) > INLINE_BYTES:
        seconds = {file: _quickest([onnx_run(file)], row)[0] for file in sizes}
    else:
        seconds = dict(zip(sizes, _quickest([onnx_run(file) for file in sizes], row), strict=True))
    return Speed(sizes[path], sizes[fp32], seconds[path], seconds[fp32])


def _quickest(runs: Sequence[InferenceFn], row: Row) -> list[float]:
    """Each one's quickest run in seconds."""
    best = [float("inf")] * len(runs)
    for repeat in range(1 + _RUNS):
        for index, run in enumerate(runs):
            started = time.perf_counter()
            run(row)
            if repeat:  # the first one makes room and packs weights
                best[index] = min(best[index], time.perf_counter() - started)
    return best
