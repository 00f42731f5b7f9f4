"""Which layers INT8 costs most: each one alone in INT8, then all but the worst few.

    python -m benchmarks.int8_sensitivity [--models model_repository] [NETWORK ...]

reads FP32 networks (`nexus-export build`) and photos, and writes results/int8_sensitivity.json and .md.
The order comes from the calibration photos, as `Network.int8_keep` follows from it; the gate's figure of keeping the
first and the last layer and the N most sensitive ones beside them comes from the test photos.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from nexus_export.exported import Array
from nexus_export.inference import onnx_run
from nexus_export.networks import Network, artifact
from nexus_export.onnx_graphs.writing import write_network
from nexus_export.precision.calibration import Ranges, measure_ranges
from nexus_export.precision.folding import fold
from nexus_export.precision.qdq import CPU_WEIGHT_MAX, Layer, activations, insert, layers
from nexus_export.quality.evaluator import Evaluator
from nexus_export.quality.metrics import psnr_db

from benchmarks.int8 import OFFERED, run

# How many of the most sensitive layers are kept in turn, beside the first and the last one.
KEPT = (0, 2, 6)
# Neighbouring layers are measured together first, in about this many groups, and those of the worst few one by one.
_GROUPS, _WORST = 16, 3


def rank(
    model: onnx.ModelProto, found: Sequence[Layer], ranges: Ranges, inputs: Mapping[str, Array], folder: Path
) -> list[tuple[float, Layer]]:
    """PSNR in dB of the network's outputs with one layer in INT8, the lowest first; of several outputs the worst.

    Layers of groups that do little harm as a whole are not measured one by one and left out.
    """

    def psnr(chosen: Sequence[Layer]) -> float:
        path = folder / "chosen.onnx"
        write_network(insert(model, ranges, chosen, CPU_WEIGHT_MAX), path)
        outputs = onnx_run(path)(inputs)
        return min(psnr_db(reference[name], outputs[name]) for name in reference)

    plain = folder / "plain.onnx"
    write_network(model, plain)
    reference = onnx_run(plain)(inputs)
    size = -(-len(found) // _GROUPS)
    groups = [found[start : start + size] for start in range(0, len(found), size)]
    suspects = [layer for group in sorted(groups, key=psnr)[:_WORST] for layer in group]
    return sorted(((psnr([layer]), layer) for layer in suspects), key=lambda item: item[0])


def measure_sensitivity(network: Network, models: Path, evaluator: Evaluator, folder: Path) -> dict[str, Any]:
    """The figures of one network, whose FP32 file is in the repository `models`."""
    model = fold(onnx.load(str(artifact(network.name, models))))
    found = layers(model)
    calibration = list(evaluator.calibration(network))
    ranges = measure_ranges(model, activations(found), calibration)
    ranked = rank(model, found, ranges, calibration[0], folder)
    ends = (found[0], found[-1])
    inner = [layer for _, layer in ranked if layer not in ends]
    gates = {}
    for count in (None, *KEPT):
        kept = [] if count is None else [*ends, *inner[:count]]
        path = folder / "some.onnx"
        chosen = [layer for layer in found if layer not in kept]
        write_network(insert(model, ranges, chosen, CPU_WEIGHT_MAX), path)
        quality, _ = evaluator.measure(network, "int8", path)
        label = "none" if count is None else f"first, last and {count}"
        gates[label] = {"mean": round(quality.verdict.value, 4), "worst": round(quality.verdict.worst, 4)}
        print(network.name, label, gates[label], flush=True)
    return {
        "layers": len(found),
        "weight_bits": CPU_WEIGHT_MAX.bit_length() + 1,
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
        "Written by `python -m benchmarks.int8_sensitivity`. Layers alone in INT8, against the same network "
        "in FP32 on a calibration row (those of the three worst of sixteen groups of neighbours); then all layers "
        "but some, on test photos, held to the gate.",
    ]
    for name, figures in results.items():
        text += [
            "",
            f"## {name}",
            "",
            # What was measured before CPUs got 7 bits does not say.
            f"{figures['layers']} layers, weights of {figures.get('weight_bits', 8)} bits; {figures['metric']}, bound "
            f"{figures['bound']}.",
        ]
        text += ["", "| kept above INT8 | mean | worst |", "|---|---|---|"]
        text += [f"| {label} | {gate['mean']} | {gate['worst']} |" for label, gate in figures["kept"].items()]
        text += ["", "| most sensitive | PSNR in dB, alone |", "|---|---|"]
        text += [f"| `{layer}` | {psnr} |" for layer, psnr in list(figures["alone_psnr_db"].items())[:12]]
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    run("int8_sensitivity", __doc__, OFFERED, measure_sensitivity, page)
