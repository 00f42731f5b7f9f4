"""Ways to INT8 compared: ours, ours with signed activations, and onnxruntime.quantization on the same folded graph.

    python -m benchmarks.int8_quantizers [--models model_repository] [NETWORK ...]

reads FP32 networks (`nexus-export build`) and writes results/int8_quantizers.json and results/int8_quantizers.md.
All calibrate on the same rows and leave out the same layers. Runs in the export environment.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from nexus_export.exported import Array
from nexus_export.networks import Network, artifact
from nexus_export.onnx_graphs.attention import decomposed
from nexus_export.precision.folding import fold
from nexus_export.precision.int8 import quantize, quantized_model, without
from nexus_export.precision.qdq import LAYERS, layers
from nexus_export.quality.evaluator import Evaluator
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

from benchmarks.int8 import run, seconds
from benchmarks.publish import processor

Inputs = Mapping[str, Array]
# Not SAM's encoder, which takes minutes.
COMPARED = ("u2net", "lama", "sam_decoder", "sdxl_unet", "sd15_unet")


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, given: Sequence[Inputs]) -> None:
        self._inputs: Iterator[Inputs] = iter(given)

    def get_next(self) -> Inputs | None:
        return next(self._inputs, None)


def quantize_with_onnxruntime(path: Path, given: Sequence[Inputs], keep: Sequence[str], out: Path) -> None:
    """`quantize` by onnxruntime's tool, set alike: QDQ, a scale a channel, UINT8 activations of the whole range.

    Attention is in plain operators: its calibration stops at tensors whose type onnx cannot infer.
    """
    model = decomposed(fold(onnx.load(str(path))))
    chosen = {layer.weights for layer in without(layers(model), keep)}
    excluded = []
    for index, node in enumerate(model.graph.node):
        node.name = f"node{index}"  # the tool excludes by name
        if node.op_type in LAYERS and node.input[1] not in chosen:
            excluded.append(node.name)
    folded = out.with_name("folded.onnx")
    onnx.save(model, str(folded))
    quantize_static(
        str(folded),
        str(out),
        _Reader(given),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=[*LAYERS, "Relu"],
        per_channel=True,
        reduce_range=True,  # weights of 7 bits, as ours for CPUs
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=excluded,
        extra_options={
            "MatMulConstBOnly": True,
            "WeightSymmetric": True,
            "OpTypesToExcludeOutputQuantization": ["MatMul", "Gemm"],
        },
    )


def compare(network: Network, models: Path, evaluator: Evaluator, folder: Path) -> dict[str, Any]:
    """Each way's figures."""
    fp32 = artifact(network.name, models)
    calibration = list(evaluator.calibration(network))
    paths = {way: folder / f"{way}.onnx" for way in ("ours", "signed", "onnxruntime")}
    quantize(fp32, calibration, network.int8_keep, paths["ours"])
    onnx.save(quantized_model(fp32, calibration, network.int8_keep, "gpu"), str(paths["signed"]))
    quantize_with_onnxruntime(fp32, calibration, network.int8_keep, paths["onnxruntime"])
    plain, *quick = seconds((fp32, *paths.values()), calibration[0])
    figures: dict[str, Any] = {"metric": network.gate.metric, "bound": network.gate.bounds["int8"]}
    for (way, path), taken in zip(paths.items(), quick, strict=True):
        verdict = evaluator.measure(network, "int8", path)[0].verdict
        figures[way] = {
            "mean": round(verdict.value, 4),
            "worst": round(verdict.worst, 4),
            "size_ratio": round(path.stat().st_size / fp32.stat().st_size, 3),
            "cpu_latency_ratio": round(taken / plain, 2),
        }
    return figures


def page(results: Mapping[str, Any]) -> str:
    """Markdown: a row a network and way."""
    lines = [
        "INT8 for CPUs written by `nexus_export.precision` (`ours`: UINT8 activations, 7-bit weights), for TensorRT "
        "(`signed`: activations around zero, weights of 8 bits), and by onnxruntime.quantization on the same folded "
        "graph, same inputs, same layers left out, weights of 7 bits (`reduce_range`), whose rest stays FP32 and whose "
        "attention is not fused. Size and processor time are shares of FP32's. SD 1.5's UNet is tiny and random. Ours "
        "has the smaller files and is the finer one for SAM's decoder; onnxruntime's is the finer one for U2-Net and, "
        "by less than half a dB, for LaMa and SDXL's UNet. SmoothQuant and nvidia-modelopt were not compared. "
        f"Written by benchmarks/int8_quantizers.py on {processor()}.",
        "",
        "| network | gate | way | mean | worst | size | CPU time |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in results.items():
        for way in ("ours", "signed", "onnxruntime"):
            f = found[way]
            lines.append(
                f"| {name} | {found['metric']} {found['bound']} | {way} | {f['mean']} | {f['worst']} | "
                f"{f['size_ratio']} | {f['cpu_latency_ratio']} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run("int8_quantizers", __doc__, COMPARED, compare, page)
