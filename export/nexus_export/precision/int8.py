"""INT8: an FP32 network and real rows in, the same network with INT8 layers out."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType

import onnx

from nexus_export.exported import Array
from nexus_export.networks import Target
from nexus_export.onnx_graphs.opsets import raised
from nexus_export.onnx_graphs.template import shorten_names
from nexus_export.onnx_graphs.writing import write_network
from nexus_export.precision.calibration import measure_ranges
from nexus_export.precision.folding import fold
from nexus_export.precision.fp16 import ALL_OPS, HALF_DEQUANTIZE, to_half
from nexus_export.precision.qdq import CPU_WEIGHT_MAX, GPU_WEIGHT_MAX, Layer, activations, insert, layers
from nexus_export.precision.symmetric import make_symmetric


def quantize(
    model_path: Path,
    rows: Iterable[Mapping[str, Array]],
    keep: Sequence[str],
    out: Path,
    metadata: Mapping[str, str] = MappingProxyType({}),
    target: Target = "cpu",
    fp32_ops: Collection[str] = (),
) -> None:
    """Write the network at `model_path`, FP32 ONNX, with INT8 layers to `out`, in the form for `target`.

    For a CPU: activations UINT8 with a zero point, weights of 7 bits; all else is stored in FP16 and computed in FP32.
    For a GPU, as TensorRT takes it: activations INT8 around zero, weights of 8 bits, scales and all else FP16, but for
    `fp32_ops`.

    Takes about twice the memory of the FP32 weights, and that of running a row.

    Args:
        model_path: weights in the file or beside it. All of them are read into memory.
        rows: inputs by name, each with its batch axis, that the activations' ranges are taken from.
        keep: weights, as patterns of `fnmatch`, whose layers stay above INT8: `Network.int8_keep`. One that matches
            nothing is no error: another checkpoint of the same network may have other names.
        out: where the file appears; weights of more than 1 GiB lie beside it, in `out`'s name and ".data".
        metadata: the file's entries.
        fp32_ops: operators that a GPU computes in FP32, see `to_half`.

    Raises BuildError if the disk is full, or the folder cannot be written.
    """
    quantized = quantized_model(model_path, rows, keep, target)
    # No engine on a CPU computes in FP16.
    singly: Collection[str] = {ALL_OPS}
    if target == "gpu":
        # Before, scales are FP32, and the casts around them keep TensorRT from multiplying matrices in INT8.
        quantized, singly = raised(quantized, HALF_DEQUANTIZE), fp32_ops
    write_network(shorten_names(to_half(quantized, singly)), out, metadata=metadata)


def quantized_model(
    model_path: Path, rows: Iterable[Mapping[str, Array]], keep: Sequence[str], target: Target
) -> onnx.ModelProto:
    """Return the network with INT8 layers in the form for `target`, and all else in FP32. See `quantize`."""
    model = fold(onnx.load(str(model_path)))
    chosen = without(layers(model), keep)
    ranges = measure_ranges(model, activations(chosen), rows)
    if target == "cpu":
        return insert(model, ranges, chosen, CPU_WEIGHT_MAX)
    quantized = insert(model, ranges, chosen, GPU_WEIGHT_MAX)
    make_symmetric(quantized)
    return quantized


def without(found: Iterable[Layer], keep: Sequence[str]) -> list[Layer]:
    """The layers whose weights match none of the patterns."""
    return [layer for layer in found if not any(fnmatch(layer.weights, pattern) for pattern in keep)]
