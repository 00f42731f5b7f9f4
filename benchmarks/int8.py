"""What INT8 saves and costs, network by network: bytes, memory, time on the CPU, and the gate's figure.

    python -m benchmarks.int8 [--models model_repository] [NETWORK ...]

reads FP32 networks (`nexus-export build`) and writes results/int8.json and results/int8.md. FP32 and INT8 run in
turn in one process, on one thread each, and the processor time of the quickest run counts: other load on the machine
hardly moves it. What TensorRT is given, see `precision.symmetric`, is measured in onnxruntime too. Runs in the export
environment.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from nexus_export import inference
from nexus_export.exported import Array
from nexus_export.inference import onnx_run
from nexus_export.networks import NETWORKS, Network, artifact
from nexus_export.precision.folding import fold
from nexus_export.precision.fp16 import to_half
from nexus_export.precision.int8 import quantize, quantized_model, without
from nexus_export.precision.qdq import layers
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.photos import read_photos
from onnx import numpy_helper

from benchmarks.publish import RESULTS, processor, publish

CACHE = Path("build/cache")
# Networks of the default profile that offer INT8.
OFFERED = ("sam_encoder", "sam_decoder", "u2net", "lama", "sdxl_unet", "sd15_unet")
RUNS = 7
# The most that an INT8 file may have of the bytes of the other one.
SIZE_BOUNDS = {"fp32": 0.30, "fp16": 0.55}

# Memory that a process gains by loading a network; in one of its own, whose heap nothing else has stretched.
_MEMORY = """
import os, sys, onnxruntime
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
before = resident()
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
print(resident() - before)
"""


def memory_bytes(path: Path) -> int:
    """Resident bytes that loading the file into onnxruntime adds."""
    found = subprocess.run([sys.executable, "-c", _MEMORY, str(path)], capture_output=True, check=True)
    return int(found.stdout)


def seconds(paths: Sequence[Path], row: Mapping[str, Array], runs: int = RUNS) -> list[float]:
    """Processor seconds of one run of each file, the quickest of `runs` in turn."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # the symmetric graph leaves constants over
    options.add_session_config_entry(inference.EXACT_INT8, "1")
    sessions = [
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]) for path in paths
    ]
    best = [float("inf")] * len(paths)
    for _ in range(runs):
        for index, session in enumerate(sessions):
            started = time.process_time()
            session.run(None, dict(row))
            best[index] = min(best[index], time.process_time() - started)
    return best


def weight_bytes(path: Path) -> int:
    """Bytes of a file's weights without its graph."""
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in onnx.load(str(path)).graph.initializer)


def bench(network: Network, models: Path, evaluator: Evaluator, folder: Path) -> dict[str, Any]:
    """The figures of one network."""
    fp32, fp16, int8 = artifact(network.name, models), folder / "fp16.onnx", folder / "int8.onnx"
    model = onnx.load(str(fp32))
    onnx.save(to_half(model, network.fp32_ops), str(fp16))
    calibration = list(evaluator.calibration(network))
    quantize(fp32, calibration, network.int8_keep, int8)
    found = layers(fold(model))
    quality, _ = evaluator.measure(network, "int8", int8)
    symmetric = folder / "symmetric.onnx"
    onnx.save(quantized_model(fp32, calibration, network.int8_keep, "gpu"), str(symmetric))
    signed, _ = evaluator.measure(network, "int8", symmetric)
    slow, quick = seconds((fp32, int8), calibration[0])
    sizes = {name: path.stat().st_size for name, path in (("fp32", fp32), ("fp16", fp16), ("int8", int8))}
    return {
        "processor": processor(),
        "layers": len(found),
        "layers_int8": len(without(found, network.int8_keep)),
        "file_bytes": sizes,
        "size_ratio_to_fp32": round(sizes["int8"] / sizes["fp32"], 3),
        "size_ratio_to_fp16": round(sizes["int8"] / sizes["fp16"], 3),
        "weight_ratio_to_fp32": round(weight_bytes(int8) / weight_bytes(fp32), 3),
        "weight_ratio_to_fp16": round(weight_bytes(int8) / weight_bytes(fp16), 3),
        "loaded_bytes": {"fp32": memory_bytes(fp32), "int8": memory_bytes(int8)},
        "cpu_latency_ratio": round(quick / slow, 2),
        "metric": network.gate.metric,
        "value": round(quality.verdict.value, 4),
        "worst": round(quality.verdict.worst, 4),
        "bound": quality.verdict.bound,
        "passed": quality.passed,
        "tensorrt_value": round(signed.verdict.value, 4),
        "tensorrt_worst": round(signed.verdict.worst, 4),
        "tensorrt_passed": signed.passed,
    }


def page(results: Mapping[str, Any]) -> str:
    """Markdown: a row a network."""
    lines = [
        "# INT8",
        "",
        "Written by `python -m benchmarks.int8`. Explicit QDQ: weights INT8, symmetric, a scale an output channel, of "
        "7 bits for a CPU and 8 for a GPU ([why](int8_processors.md)); activations UINT8. What stays in floating point "
        "is stored in FP16 and computed in FP32. SD 1.5's UNet is a tiny one of random weights: of its file a good "
        "part is the graph. No UNet here is a full-size one.",
        "",
        f"Measured on {'; '.join(sorted({figures['processor'] for figures in results.values()}))}.",
        "",
        _misses(results),
        "",
        "CPU time is INT8's share of FP32's, on one thread. Gate figures are of the ONNX file, and in brackets with "
        "activations INT8 around zero, as TensorRT wants them (what `--for gpu` writes computes its rest in FP16 "
        "besides: see quality.md); of `psnr_db` the worst row counts, of the others the mean.",
        "",
        "| network | layers in INT8 | file, MB: FP32, FP16, INT8 | INT8 to FP32 | to FP16 | weights alone "
        "| loaded, MB: FP32, INT8 | CPU time | gate | mean | worst | bound |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, f in results.items():
        files = ", ".join(f"{size / 1e6:.1f}" for size in f["file_bytes"].values())
        loaded = ", ".join(f"{size / 1e6:.0f}" for size in f["loaded_bytes"].values())
        lines.append(
            f"| {name} | {f['layers_int8']} of {f['layers']} | {files} | {f['size_ratio_to_fp32']} | "
            f"{f['size_ratio_to_fp16']} | {f['weight_ratio_to_fp32']} | {loaded} | {f['cpu_latency_ratio']} | "
            f"{f['metric']} | {f['value']} ({f['tensorrt_value']}) | {f['worst']} ({f['tensorrt_worst']}) | "
            f"{f['bound']} |"
        )
    return "\n".join(lines) + "\n"


def _misses(results: Mapping[str, Any]) -> str:
    """Which bound is missed by which network."""
    misses = [
        f"{name}'s file is {f[f'size_ratio_to_{kind}']} of {kind.upper()}'s, not {bound:.2f} "
        f"(weights alone {f[f'weight_ratio_to_{kind}']})"
        for kind, bound in SIZE_BOUNDS.items()
        for name, f in results.items()
        if f[f"size_ratio_to_{kind}"] > bound
    ]
    misses += [
        f"{name} takes {f['cpu_latency_ratio']} of FP32's CPU time"
        for name, f in results.items()
        if f["cpu_latency_ratio"] >= 1
    ]
    misses += [f"{name} misses its gate" for name, f in results.items() if not f["passed"]]
    misses += [
        f"{name} misses its gate in TensorRT" for name, f in results.items() if not f["tensorrt_passed"]
    ]
    return f"Missed: {'; '.join(misses)}. All other bounds are kept." if misses else "All bounds are kept."


def run(
    title: str,
    description: str | None,
    networks: Sequence[str],
    bench: Callable[[Network, Path, Evaluator, Path], dict[str, Any]],
    page: Callable[[Mapping[str, Any]], str],
) -> None:
    """The command: measure the networks that are named, or all, and write them beside those that are not named."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", metavar="NETWORK")
    parser.add_argument("--models", type=Path, default=Path("model_repository"), help="FP32 networks")
    parser.add_argument("--photos", type=Path, default=Path("demo/photos"))
    options = parser.parse_args()
    evaluator = Evaluator(
        read_photos(options.photos), CACHE, lambda name: onnx_run(artifact(name, options.models))
    )
    stored = RESULTS / f"{title}.json"
    results = json.loads(stored.read_text()) if options.networks and stored.is_file() else {}
    for name in options.networks or networks:
        with tempfile.TemporaryDirectory() as folder:
            results[name] = bench(NETWORKS[name], options.models, evaluator, Path(folder))
        publish(title, results, page(results))


if __name__ == "__main__":
    run("int8", __doc__, OFFERED, bench, page)
