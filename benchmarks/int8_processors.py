"""INT8 on x86-64 processors with and without VNNI: gates and times of three ways to write and to run it.

    python -m benchmarks.int8_processors [--models model_repository]

reads FP32 networks (`nexus-export build`) and writes results/int8_processors.json and .md. The processors without VNNI
are this one with instruction sets hidden from onnxruntime (tests/support/processors.py), in processes of their own.
FP32 and INT8 run in turn on one thread; the processor time of the quickest run counts. Runs in the export environment.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from nexus_export import inference
from nexus_export.inference import onnx_run
from nexus_export.networks import NETWORKS, artifact
from nexus_export.precision.calibration import measure_ranges
from nexus_export.precision.folding import fold
from nexus_export.precision.int8 import without
from nexus_export.precision.qdq import CPU_WEIGHT_MAX, GPU_WEIGHT_MAX, activations, insert, layers
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.photos import Photo, Split, read_photos

from benchmarks.int8 import CACHE, OFFERED, seconds
from benchmarks.publish import processor, publish
from tests.support.processors import HIDDEN, environment

# The magnitude of the largest weight, and whether onnxruntime is asked for exact sums.
WAYS: Mapping[str, tuple[int, bool]] = {
    "8 bits": (GPU_WEIGHT_MAX, False),
    "8 bits, exact": (GPU_WEIGHT_MAX, True),
    "7 bits": (CPU_WEIGHT_MAX, True),
}
THIS = "VNNI"
NAMES = {THIS: "this processor, VNNI", "avx512": "AVX-512 without VNNI", "avx2": "AVX2 alone"}
_PHOTOS = 2  # as in the test of the gates


def make_evaluator(models: Path, folder: Path) -> Evaluator:
    """Evaluates on the first photos of each split in `folder`, against the FP32 networks in `models`."""
    photos: dict[Split, list[Photo]] = {
        split: found[:_PHOTOS] for split, found in read_photos(folder).items()
    }
    return Evaluator(photos, CACHE, lambda name: onnx_run(artifact(name, models)))


def write_networks(models: Path, photos: Path, folder: Path) -> None:
    """Write every network with weights of both magnitudes to `folder`, calibrated on the processor as it is."""
    evaluator = make_evaluator(models, photos)
    for name in OFFERED:
        network = NETWORKS[name]
        model = fold(onnx.load(str(artifact(name, models))))
        chosen = without(layers(model), network.int8_keep)
        ranges = measure_ranges(model, activations(chosen), evaluator.calibration(network))
        for weight_max in (CPU_WEIGHT_MAX, GPU_WEIGHT_MAX):
            onnx.save(insert(model, ranges, chosen, weight_max), str(folder / f"{name}.{weight_max}.onnx"))


def measure_here(models: Path, photos: Path, folder: Path, way: str) -> dict[str, Any]:
    """The figures of every network, one way, on the processor that this process finds."""
    weight_max, exact = WAYS[way]
    if not exact:
        inference.EXACT_INT8 = "nexus_export.unused"  # onnxruntime takes entries that it does not know
    evaluator = make_evaluator(models, photos)
    found = {}
    for name in OFFERED:
        path = folder / f"{name}.{weight_max}.onnx"
        quality, _ = evaluator.measure(NETWORKS[name], "int8", path)
        inputs = next(iter(evaluator.calibration(NETWORKS[name])))
        fp32_seconds, int8_seconds = seconds((artifact(name, models), path), inputs)
        found[name] = {
            "value": round(quality.verdict.value, 4),
            "passed": quality.passed,
            "cpu_latency_ratio": round(int8_seconds / fp32_seconds, 2),
        }
    return found


def page(results: Mapping[str, Any]) -> str:
    """Markdown: a table of gates and one of times, a row a network and a column a processor and way."""
    columns = [(kind, way) for kind in NAMES for way in WAYS]
    head = "".join(f" {NAMES[kind]}: {way} |" for kind, way in columns)
    lines = [
        "# INT8 with and without VNNI",
        "",
        f"Written by `python -m benchmarks.int8_processors` on {results['processor']}; the processors without VNNI are "
        "this one with instruction sets hidden from onnxruntime. Without VNNI, x86-64 adds the products of two UINT8 "
        "activations and two INT8 weights in 16 bits, which saturate with weights of 8 bits. `exact` is "
        "`session.x64quantprecision`: onnxruntime then multiplies by UINT8 weights. `nexus-export` writes 7 bits for "
        "CPUs: right on every processor, in every build of onnxruntime, and quicker without VNNI than exact 8 bits. "
        "What is for GPUs keeps 8 bits. (Activations saturate in no other place; the rest of a network is FP32, whose "
        "last bits differ by processor.)",
        "",
        "The gate's figure; in bold where it is missed:",
        "",
        f"| network | gate |{head}",
        "|---|---|" + "---|" * len(columns),
    ]
    for name in OFFERED:
        gate = NETWORKS[name].gate
        cells = [results[kind][way][name] for kind, way in columns]
        marked = [f"{cell['value']}" if cell["passed"] else f"**{cell['value']}**" for cell in cells]
        lines.append(f"| {name} | {gate.metric}, {gate.bounds['int8']} | {' | '.join(marked)} |")
    lines += ["", "Processor time of INT8 to that of FP32 on the same processor, one thread:", ""]
    lines += [f"| network |{head}", "|---|" + "---|" * len(columns)]
    for name in OFFERED:
        cells = [str(results[kind][way][name]["cpu_latency_ratio"]) for kind, way in columns]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=Path("model_repository"), help="FP32 networks")
    parser.add_argument("--photos", type=Path, default=Path("demo/photos"))
    parser.add_argument(
        "--measure", nargs=2, help=argparse.SUPPRESS
    )  # what this command runs on each processor
    options = parser.parse_args()
    if options.measure:
        folder, way = options.measure
        print(json.dumps(measure_here(options.models, options.photos, Path(folder), way)))
        return
    results: dict[str, Any] = {"processor": processor()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_networks(options.models, options.photos, folder)
        for kind in NAMES:
            found = environment(kind, folder) if kind in HIDDEN else os.environ
            if found is None:
                sys.exit("benchmarks: no C compiler (cc), or this processor cannot hide its features")
            for way in WAYS:
                command = [sys.executable, "-m", "benchmarks.int8_processors", "--measure", name, way]
                command += ["--models", str(options.models), "--photos", str(options.photos)]
                done = subprocess.run(command, env=found, stdout=subprocess.PIPE, check=True)
                results.setdefault(kind, {})[way] = json.loads(done.stdout)
                print(kind, way, "measured", flush=True)
    publish("int8_processors", results, page(results))


if __name__ == "__main__":
    main()
