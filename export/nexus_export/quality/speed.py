"""Size and latency of an artifact beside its FP32 form, measured together."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nexus_export.artifacts import file_bytes
from nexus_export.exported import Array, InferenceFn
from nexus_export.inference import onnx_run
from nexus_export.onnx_graphs.writing import INLINE_BYTES

# Runs of each file, in turn; the quickest counts, since other load only ever adds to one.
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


def measure_speed(path: Path, fp32: Path, inputs: Mapping[str, Array]) -> Speed:
    """Run both files on the same inputs, or once where both are the same file.

    Small files run in turn, so that other load falls on both; of large ones one is in memory at a time.
    """
    sizes = {file: file_bytes(file) for file in (path, fp32)}
    if sum(sizes.values()) > INLINE_BYTES:
        seconds = {file: _quickest([onnx_run(file)], inputs)[0] for file in sizes}
    else:
        seconds = dict(zip(sizes, _quickest([onnx_run(file) for file in sizes], inputs), strict=True))
    return Speed(sizes[path], sizes[fp32], seconds[path], seconds[fp32])


def _quickest(runs: Sequence[InferenceFn], inputs: Mapping[str, Array]) -> list[float]:
    """Each one's quickest run in seconds."""
    best = [float("inf")] * len(runs)
    for repeat in range(1 + _RUNS):
        for index, run in enumerate(runs):
            started = time.perf_counter()
            run(inputs)
            if repeat:  # the first run allocates memory and packs weights
                best[index] = min(best[index], time.perf_counter() - started)
    return best
