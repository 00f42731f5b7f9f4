"""SDXL and SD 1.5 inpainting at the published sizes: memory and seconds of the export, parity, FP16.

The weights are random. Torch and onnxruntime run in processes after each other, so that each fits into memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
import pytest
from nexus_export.downloads.packages import CLIP_VOCABULARY, fetch
from nexus_export.families.diffusion.checkpoint import exports, open_checkpoint
from nexus_export.families.diffusion.checkpoint import reference as torch_reference
from nexus_export.families.diffusion.clip_vocabulary import read_published
from nexus_export.networks import GROUPS, NETWORKS, TIERS, Tensor
from nexus_export.onnx_graphs.writing import write_network
from nexus_export.precision.fp16 import to_half
from nexus_export.quality.metrics import psnr_db
from numpy.typing import NDArray

from tests.export.full.diffusion_checkpoint import write_full_checkpoint
from tests.export.full.figures import measured, record

CACHE = Path(__file__).parents[3] / "build" / "cache"
# In latents; neither is a traced size.
SIZES = ((16, 16), (24, 16))
PROMPTS = 2
# CLIP's tokens for start and end of a text.
START_ID, END_ID = 49_406, 49_407
# The limit of an export beside a server and a desktop on 16 GB.
EXPORT_PEAK_BYTES = 12 << 30
# FP32 sums over thousands of values in another order: outputs have a deviation near 1.
TOLERANCE = 1e-3

Rows = dict[str, NDArray[Any]]


class Written(NamedTuple):
    """The time and memory of writing a network at both precisions, and the sizes of the files."""

    trace_seconds: float
    fp32_seconds: float
    fp32_bytes: int
    fp16_seconds: float
    fp16_bytes: int


@pytest.fixture(scope="module")
def checkpoint(module_scratch: Path) -> Callable[[str], Path]:
    """The folder of a tier's full-size checkpoint."""

    @lru_cache
    def write(tier: str) -> Path:
        merges = read_published(fetch(CLIP_VOCABULARY, CACHE, lambda _: None))
        write_full_checkpoint(tier, module_scratch / tier, merges)
        return module_scratch / tier

    return write


@pytest.mark.parametrize("network", [name for tier in TIERS for name in GROUPS[tier]])
def test_the_network_at_full_size(network: str, checkpoint: Callable[[str], Path], scratch: Path) -> None:
    folder = checkpoint(network.partition("_")[0])
    written, peak, _ = measured(_write, folder, network, scratch)
    record(f"{network}: export", export_peak_bytes=peak, **written._asdict())
    assert peak <= EXPORT_PEAK_BYTES
    # Half the bytes, but for graphs and constants, which stay FP32.
    assert written.fp16_bytes <= 0.52 * written.fp32_bytes

    reference = measured(_run_torch, folder, network, scratch / "torch.npz")
    fp32 = measured(_run_onnx, scratch / "fp32.onnx", network, scratch / "fp32.npz")
    fp16 = measured(_run_onnx, scratch / "fp16.onnx", network, scratch / "fp16.npz")
    expected, found, half = (np.load(scratch / f"{name}.npz") for name in ("torch", "fp32", "fp16"))
    worst = max(float(np.abs(expected[name].astype(float) - found[name]).max()) for name in expected)
    psnr = min(psnr_db(expected[name], half[name]) for name in expected)
    record(
        f"{network}: parity with torch",
        max_abs=worst,
        fp16_psnr_db=psnr,
        torch_peak_bytes=reference.peak_rss_bytes,
        fp32_peak_bytes=fp32.peak_rss_bytes,
        fp16_peak_bytes=fp16.peak_rss_bytes,
    )
    for name in expected:
        assert np.isfinite(half[name]).all()
        # None is flat, which would hide whatever goes wrong.
        assert expected[name].std() > 0.1
    # Pictures are UINT8: where a value lies half-way, rounding may fall the other way.
    assert worst <= (1 if network.endswith("vae_decoder") else TOLERANCE)
    assert psnr >= NETWORKS[network].gate.bounds["fp16"]


def _write(checkpoint: Path, network: str, folder: Path) -> Written:
    """Export `network` at both precisions as fp32.onnx and fp16.onnx in `folder`."""
    started = time.monotonic()
    [export] = exports(open_checkpoint(checkpoint, network.partition("_")[0]), network)
    seconds, sizes = [time.monotonic() - started], []
    half = to_half(export.template, export.single_ops)
    for path, template in ((folder / "fp32.onnx", export.template), (folder / "fp16.onnx", half)):
        started = time.monotonic()
        write_network(template, path, export.weights)
        seconds.append(time.monotonic() - started)
        sizes.append(sum(file.stat().st_size for file in folder.glob(f"{path.name}*")))
    return Written(seconds[0], seconds[1], sizes[0], seconds[2], sizes[1])


def _run_torch(checkpoint: Path, network: str, out: Path) -> None:
    run = torch_reference(open_checkpoint(checkpoint, network.partition("_")[0]), network)
    results: Rows = {}
    for index, rows in enumerate(_rows(network)):
        results |= {f"{name} {index}": array for name, array in run(rows).items()}
    # numpy's stubs take the arrays for its one option.
    np.savez(out, **results)  # type: ignore[arg-type]


def _run_onnx(model: Path, network: str, out: Path) -> None:
    options = onnxruntime.SessionOptions()
    # Both would hold a second copy of the weights, which otherwise stay in the mapped file.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    results: Rows = {}
    for index, rows in enumerate(_rows(network)):
        results |= {
            f"{name} {index}": array for name, array in zip(names, session.run(names, rows), strict=True)
        }
    # numpy's stubs take the arrays for its one option.
    np.savez(out, **results)  # type: ignore[arg-type]


def _rows(network: str) -> Iterator[Rows]:
    """Rows for each of `SIZES`, the same in every process."""
    width = {"sdxl": 2048, "sd15": 768}[network.partition("_")[0]]
    for height, breadth in SIZES:
        rng = np.random.default_rng((height, breadth))
        sides = {"height": height * 8, "width": breadth * 8, "context_width": width, "pooled_width": 1280}
        sides |= {"latent_height": height, "latent_width": breadth}
        yield {tensor.name: _row(tensor, sides, rng) for tensor in NETWORKS[network].inputs}


def _row(tensor: Tensor, sides: dict[str, int], rng: np.random.Generator) -> NDArray[Any]:
    dims = [PROMPTS, *(sides[dim] if isinstance(dim, str) else dim for dim in tensor.dims)]
    match tensor.name:
        case "input_ids" | "input_ids_2":
            ids = rng.integers(0, END_ID, dims, np.int32)
            # The second prompt is cut off, the first ends early and is padded, as the two tokenizers do it.
            ids[:, 0], ids[1, -1], ids[0, 11] = START_ID, END_ID, END_ID
            ids[0, 12:] = END_ID if tensor.name == "input_ids" else 0
            return ids
        case "timestep":
            return np.array([[981], [41]], np.float32)
        case "time_ids":
            return np.array([[1024, 1024, 0, 0, 1024, 1024], [768, 512, 8, 0, 640, 640]], np.float32)
        case "image":
            return rng.integers(0, 256, dims, np.uint8)
        case _:
            return rng.standard_normal(dims, np.float32)
