"""What each precision costs: the default profile's networks at FP32, FP16 and INT8 against their FP32 references.

    python -m benchmarks.quality [NETWORK ...] [--repositories build/quality]

Builds every network at every precision into a repository each, kept for `benchmarks.precisions`, and writes
results/quality.json, results/quality.md and contact sheets at FP16 and INT8, results/quality_NETWORK_PRECISION.jpg.
INT8 is built for a GPU, also where a CPU gains nothing by it. The page names what a gate keeps out and what is not
offered. The weights of sd15 are random.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, get_args

from nexus_export.artifacts import read_quality
from nexus_export.build import offered
from nexus_export.cli.verify import verify
from nexus_export.default_profile import RECIPES, State, build, choose_recipes, state
from nexus_export.errors import QualityError
from nexus_export.families.registry import REGISTRY
from nexus_export.networks import Precision, artifact
from nexus_export.paths import PHOTOS
from nexus_export.quality.gate import METRIC_TITLES

from benchmarks.publish import RESULTS, machine, publish

CACHE = Path("build/cache")
# Networks whose contact sheets are kept: one for each kind of output.
SHEETS = ("sam_encoder", "u2net", "lama", "sdxl_unet")
REPOSITORIES = Path("build/quality")


def measure(names: list[str], repositories: Path) -> dict[str, dict[str, Any]]:
    """The figures of each network by precision, or {"refused": sentence} if it was not built."""
    results: dict[str, dict[str, Any]] = {}
    for precision in get_args(Precision):
        repository = repositories / precision
        for recipe in choose_recipes(names):
            results.setdefault(recipe.name, {})[precision] = _figures(recipe.name, precision, repository)
        for group in dict.fromkeys(recipe.network.group for recipe in choose_recipes(names)):
            if (side_files := REGISTRY[group].side_files) is not None:
                side_files.write(None, repository, CACHE, print)
    return results


def _figures(name: str, precision: Precision, repository: Path) -> dict[str, Any]:
    recipe = RECIPES[name]
    # The UNets' INT8 is for GPUs, and is measured on this CPU all the same.
    if offered(recipe.network, precision, "gpu") != precision:
        return {"refused": f"not offered at {precision}"}
    path, sheet = artifact(name, repository), f"{name}_{precision}.jpg"
    kept_sheet = RESULTS / f"quality_{sheet}" if name in SHEETS and precision != "fp32" else None
    if state(recipe, repository, precision) is not State.UP_TO_DATE:
        try:
            build(recipe, repository, CACHE, print, precision, PHOTOS, "gpu")
        except QualityError as error:
            return {"refused": str(error)}
        if kept_sheet is not None:
            kept_sheet.unlink(missing_ok=True)
    if read_quality(path) is None or (kept_sheet is not None and not kept_sheet.is_file()):
        verify([name], None, PHOTOS, REPOSITORIES / "sheets", repository, CACHE)
        if kept_sheet is not None:
            kept_sheet.write_bytes((REPOSITORIES / "sheets" / sheet).read_bytes())
    figures = read_quality(path)
    assert figures is not None
    del figures["onnx_sha256"]
    return figures


def page(results: dict[str, dict[str, Any]]) -> str:
    """Markdown: a row a network and precision."""
    lines = [
        "Each network against its FP32 reference, on inputs that the pipelines hand it for the test photos of "
        "demo/photos. `mean` and `worst` are the gate's figure over these; a gate of PSNR in dB is held to the worst, "
        "every other to the mean, FP32 to its largest difference. SAM's masks are those that segment serves. Size and "
        "time are shares of the FP32 file's; time is a run of a batch of 1 in "
        f"onnxruntime, {machine()}. INT8 is as built for a GPU (`--for gpu`). FP16's range and "
        "rounding are simulated, also in the FP16 part of INT8; the time is the file's own on this CPU, which computes "
        "FP16 in FP32, and predicts no GPU's. Memory after loading: int8.md. "
        "The weights of sd15 are random. Written by benchmarks/quality.py.",
        "",
        "| network | at | gate | mean | worst | bound | max abs | PSNR dB | SSIM | MB | size | CPU time |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, precisions in results.items():
        for precision, figures in precisions.items():
            if "refused" in figures:
                lines.append(f"| {name} | {precision} | {figures['refused']} {'| ' * 9}|")
                continue
            gate = figures["gate"]
            mean = figures["psnr_db"] if gate["metric"] == "psnr_db" else gate["value"]
            lines.append(
                f"| {name} | {precision} | {METRIC_TITLES[gate['metric']]} | {mean:.4g} | {gate['worst']:.4g} "
                f"| {gate['bound']:.4g} | {figures['max_abs']:.2g} | {figures['psnr_db']:.1f} | {figures['ssim']:.4f} "
                f"| {figures['bytes'] / 1e6:.1f} | {figures['size_ratio']:.2f} | {figures['cpu_latency_ratio']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Build, measure, print the table and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*")
    parser.add_argument("--repositories", type=Path, default=REPOSITORIES)
    options = parser.parse_args()
    results = measure(options.networks, options.repositories)
    publish("quality", results, page(results))


if __name__ == "__main__":
    main()
