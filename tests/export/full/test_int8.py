"""INT8 at full size, of seeded random weights: bytes, memory and time. They say nothing about quality."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from nexus_export.exported import Array
from nexus_export.families.lama.checkpoint import exports as lama_exports
from nexus_export.families.sam.checkpoint import exports as sam_exports
from nexus_export.families.sam.vit import PUBLISHED
from nexus_export.inference import onnx_run
from nexus_export.networks import NETWORKS
from nexus_export.onnx_graphs.writing import write_network
from nexus_export.precision.fp16 import to_half
from nexus_export.precision.int8 import quantize
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.photos import read_photos

from benchmarks.int8 import SIZE_BOUNDS, memory_bytes, seconds
from tests.export.full.figures import measured, record
from tests.export.support import published_lama, published_sam

PHOTOS = Path(__file__).parents[3] / "demo" / "photos"
CACHE = PHOTOS.parents[1] / "build" / "cache"
# A ViT takes half a minute a run.
RUNS = 2


def _write_lama(path: Path) -> None:
    published_lama.write_lightning(published_lama.random_state(seed=0), path)


def _write_sam(path: Path) -> None:
    torch.save(published_sam.random_state(PUBLISHED["b"]), path)


def _export(name: str, write: Callable[[Path], None], folder: Path) -> None:
    """Write the network in FP32 and in FP16."""
    checkpoint = folder / "checkpoint.pth"
    write(checkpoint)
    export = next({"lama": lama_exports, "sam_encoder": sam_exports}[name](checkpoint))
    half = to_half(export.template, export.single_ops)
    for template, kind in ((export.template, "fp32"), (half, "fp16")):
        write_network(template, folder / f"{kind}.onnx", export.weights)


def _row(name: str) -> Mapping[str, Array]:
    return next(Evaluator(read_photos(PHOTOS), CACHE).calibration(NETWORKS[name]))


def _quantize(name: str, folder: Path) -> None:
    quantize(folder / "fp32.onnx", [_row(name)], NETWORKS[name].int8_keep, folder / "int8.onnx")


@pytest.mark.parametrize(
    ("title", "name", "write"), [("big-lama", "lama", _write_lama), ("SAM ViT-B", "sam_encoder", _write_sam)]
)
def test_int8(title: str, name: str, write: Callable[[Path], None], scratch: Path) -> None:
    measured(_export, name, write, scratch)
    quantizing = measured(_quantize, name, scratch)
    paths = {kind: scratch / f"{kind}.onnx" for kind in ("fp32", "fp16", "int8")}
    row = _row(name)
    slow, quick = seconds((paths["fp32"], paths["int8"]), row, RUNS)
    sizes = {kind: path.stat().st_size for kind, path in paths.items()}
    record(
        f"{title}: INT8",
        cpu_latency_ratio=quick / slow,
        fp32_bytes=sizes["fp32"],
        int8_bytes=sizes["int8"],
        loaded_fp32_bytes=memory_bytes(paths["fp32"]),
        loaded_int8_bytes=memory_bytes(paths["int8"]),
        quantizing_peak_bytes=quantizing.peak_rss_bytes,
        quantizing_seconds=quantizing.seconds,
        size_ratio_to_fp16=sizes["int8"] / sizes["fp16"],
        size_ratio_to_fp32=sizes["int8"] / sizes["fp32"],
    )
    kinds = {tensor.data_type for tensor in onnx.load(str(paths["int8"])).graph.initializer}
    assert onnx.TensorProto.INT8 in kinds
    for kind, bound in SIZE_BOUNDS.items():
        assert sizes["int8"] <= bound * sizes[kind]
    [found] = onnx_run(paths["int8"])(row).values()
    assert np.isfinite(found).all()
    assert found.std() > 0.05  # not flat
