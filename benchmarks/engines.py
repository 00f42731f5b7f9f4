"""What compiling full-size networks takes: seconds, memory, and the engines' size; no GPU is needed.

    python -m benchmarks.engines --models FOLDER [--gpu sm86] [--of WORDS]

Compiles every network in the model repository FOLDER with TensorRT-RTX, each in a process of its own, and merges what
that took into results/engines.json and results/engines.md. WORDS say what the networks were built from. Engines are
removed when they are measured. How fast one runs only its GPU can tell.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.publish import RESULTS, machine, publish

NAME = "engines"
TITLE = """# Engines

What `nexus-export engine --backend rtx` takes, by `python -m benchmarks.engines`. CPU seconds are those of the process,
wall seconds depend on what else the machine did. Peak memory is the process's resident set. An engine serves any batch
and size of its profile, whose largest shape stands in the table. No GPU was there: no engine was run, and what one
needs of a GPU's memory, how fast it is and how near to FP32 could not be measured.

| network | built from | precision | for | ONNX, MB | engine, MB | CPU, s | wall, s | peak memory, GB | largest shape |
|---|---|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what compiling networks takes.")
    parser.add_argument(
        "--models", type=Path, required=True, help="a model repository with full-size networks"
    )
    parser.add_argument("--gpu", default="sm86")
    parser.add_argument("--of", default="seeded random weights", help="what they were built from, in words")
    options = parser.parse_args()
    path = RESULTS / f"{NAME}.json"
    for artifact in sorted(options.models.glob("*/1/model.onnx")):
        found = {"of": options.of, **measure(artifact, options.gpu)}
        # Read late: minutes have passed, and another network may have been measured beside this one.
        results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        results[artifact.parents[1].name] = found
        publish(NAME, results, page(results))


def measure(artifact: Path, gpu: str) -> dict[str, Any]:
    """Compile one network; exits with the command's own sentence where that fails."""
    network, repository = artifact.parents[1].name, artifact.parents[2]
    command = [str(Path(sys.executable).with_name("nexus-export")), "engine", network]
    started = time.monotonic()
    process = subprocess.Popen([*command, "--gpu", gpu, "--backend", "rtx", "--out", str(repository)])
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status:
        sys.exit(f"{network} was not compiled; see above.")
    engine = artifact.with_name("model.rtx")
    manifest = json.loads(engine.with_name("model.rtx.json").read_text())
    engine.unlink()
    engine.with_name("model.rtx.json").unlink()
    return {
        "precision": manifest["precision"],
        "gpu": gpu,
        "library": f"TensorRT-RTX {manifest['library_version']}",
        "onnx_bytes": sum(file.stat().st_size for file in artifact.parent.glob("model.onnx*")),
        "engine_bytes": manifest["engine_bytes"],
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "wall_seconds": round(seconds, 1),
        "peak_rss_bytes": used.ru_maxrss * 1024,
        "largest_shapes": {name: shapes["most"] for name, shapes in manifest["profile"].items()},
        "machine": machine(),
    }


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The results as a table in Markdown."""
    rows = []
    for network, found in sorted(results.items()):
        largest = next(iter(found["largest_shapes"].values()))
        cells = [
            *(network, found["of"], found["precision"], found["gpu"]),
            *(f"{found[key] / 1e6:.0f}" for key in ("onnx_bytes", "engine_bytes")),
            *(f"{found[key]:.0f}" for key in ("cpu_seconds", "wall_seconds")),
            f"{found['peak_rss_bytes'] / 1e9:.1f}",
            " x ".join(map(str, largest)),
        ]
        rows.append(f"| {' | '.join(cells)} |\n")
    libraries = sorted({found["library"] for found in results.values()})
    machines = sorted({found["machine"] for found in results.values()})
    return f"{TITLE}{''.join(rows)}\nBuilt by {', '.join(libraries)} on {'; '.join(machines)}.\n"


if __name__ == "__main__":
    main()
