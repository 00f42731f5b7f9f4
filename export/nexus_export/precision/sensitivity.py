"""Which layers INT8 costs most: each one alone in INT8, then all but the worst few.

    python -m nexus_export.precision.sensitivity NETWORK [NETWORK ...]

reads FP32 networks (``nexus-export build``) and photos, and writes benchmarks/results/int8_sensitivity.json and .md.
The order comes from the calibration photos, as `Network.int8_keep` follows from it; the gate's figure of keeping the
first and the last layer and the N most sensitive ones beside them comes from the test photos.
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import onnx

from nexus_export.export import Array, Run
from nexus_export.networks import NETWORKS, Network, artifact
from nexus_export.precision.calibration import Ranges, measure_ranges, save
from nexus_export.precision.folding import fold
from nexus_export.precision.qdq import Layer, activations, insert, layers
from nexus_export.quality.metrics import psnr_db
from nexus_export.quality.photos import Photo, Split, read_photos
from nexus_export.quality.rows import Row, rows
from nexus_export.quality.verify import measure
from nexus_export.runs import onnx_run

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results"
#: How many of the most sensitive layers are kept in turn, beside the first and the last one.
KEPT = (0, 1, 2, 4, 8)
#: Of the calibration rows, this many are run with each layer alone: they tell an order, and time is short.
_ROWS = 2

Upstream = Callable[[str], Run]


def rank(
    model: onnx.ModelProto, found: Sequence[Layer], ranges: Ranges, inputs: Sequence[Row], folder: Path
) -> list[tuple[float, Layer]]:
    """PSNR in dB of the network's outputs with one layer in INT8, the lowest first; of several outputs the worst."""
    plain = folder / "plain.onnx"
    save(model, plain)
    run = onnx_run(plain)
    references = [run(row) for row in inputs]
    ranked = []
    for layer in found:
        path = folder / "one.onnx"
        save(insert(model, ranges, [layer]), path)
        run = onnx_run(path)
        worst = min(_worst(reference, run(row)) for row, reference in zip(inputs, references, strict=True))
        ranked.append((worst, layer))
    return sorted(ranked, key=lambda item: item[0])


def measure_sensitivity(
    network: Network, models: Path, photos: Mapping[Split, Sequence[Photo]]
) -> dict[str, Any]:
    """The figures of one network, whose FP32 file and those it reads from are in the repository `models`."""
    upstream: Upstream = cache(lambda name: onnx_run(artifact(name, models)))
    model = fold(onnx.load(str(artifact(network.name, models))))
    found = layers(model)
    calibration = list(rows(network, "calibration", photos["calibration"], upstream))
    ranges = measure_ranges(model, activations(found), calibration)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ranked = rank(model, found, ranges, calibration[:: max(1, len(calibration) // _ROWS)][:_ROWS], folder)
        ends = (found[0], found[-1])
        inner = [layer for _, layer in ranked if layer not in ends]
        gates = {}
        for count in (None, *KEPT):
            kept = [] if count is None else [*ends, *inner[:count]]
            path = folder / "some.onnx"
            save(insert(model, ranges, [layer for layer in found if layer not in kept]), path)
            quality, _ = measure(network, "int8", path, photos["test"], upstream)
            verdict = quality.verdict
            label = "none" if count is None else f"first, last and {count}"
            gates[label] = {"mean": round(verdict.value, 4), "worst": round(verdict.worst, 4)}
    return {
        "layers": len(found),
        "metric": network.gate.metric,
        "bound": network.gate.bounds["int8"],
        "kept": gates,
        "alone_psnr_db": {layer.weights: round(psnr, 2) for psnr, layer in ranked},
    }


def page(results: Mapping[str, Any]) -> str:
    """Markdown: for every network the gate's figure by what is kept, and its most sensitive layers."""
    text = [
        "# What INT8 costs, layer by layer",
        "",
        "Written by `python -m nexus_export.precision.sensitivity`. Every layer alone in INT8, against the same "
        "network in FP32 on calibration photos; then all layers but some, on test photos, held to the gate.",
    ]
    for name, figures in results.items():
        text += [
            "",
            f"## {name}",
            "",
            f"{figures['layers']} layers; {figures['metric']}, bound {figures['bound']}.",
        ]
        text += ["", "| kept above INT8 | mean | worst |", "|---|---|---|"]
        text += [f"| {label} | {gate['mean']} | {gate['worst']} |" for label, gate in figures["kept"].items()]
        text += ["", "| most sensitive | PSNR in dB, alone |", "|---|---|"]
        text += [f"| `{layer}` | {psnr} |" for layer, psnr in list(figures["alone_psnr_db"].items())[:12]]
    return "\n".join(text) + "\n"


def _worst(reference: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    return min(psnr_db(reference[name], found[name]) for name in reference)


def main() -> None:
    """Measure the networks that are named and write the results, beside those of other networks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    offered = [name for name, network in NETWORKS.items() if "int8" in network.gate.bounds]
    parser.add_argument("networks", nargs="+", choices=offered, metavar="NETWORK")
    parser.add_argument("--models", type=Path, default=Path("model_repository"), help="FP32 networks")
    parser.add_argument("--photos", type=Path, default=Path("demo/photos"))
    options = parser.parse_args()
    photos: dict[Split, Sequence[Photo]] = {
        "calibration": read_photos(options.photos, "calibration"),
        "test": read_photos(options.photos, "test"),
    }
    stored = RESULTS / "int8_sensitivity.json"
    results = json.loads(stored.read_text()) if stored.is_file() else {}
    for name in options.networks:
        results[name] = measure_sensitivity(NETWORKS[name], options.models, photos)
        RESULTS.mkdir(exist_ok=True)
        stored.write_text(json.dumps(results, indent=1) + "\n")
        stored.with_suffix(".md").write_text(page(results))


if __name__ == "__main__":
    main()
