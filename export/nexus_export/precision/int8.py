"""INT8: an FP32 network and real rows in, the same network with INT8 layers out."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from types import MappingProxyType

import onnx

from nexus_export.export import Array
from nexus_export.onnx_graphs.template import shorten_names
from nexus_export.onnx_graphs.writing import write_network
from nexus_export.precision.calibration import measure_ranges
from nexus_export.precision.folding import fold
from nexus_export.precision.fp16 import ALL_OPS, to_half
from nexus_export.precision.qdq import Layer, activations, insert, layers


def quantize(
    model_path: Path,
    rows: Iterable[Mapping[str, Array]],
    keep: Sequence[str],
    out: Path,
    metadata: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Write the network at `model_path`, FP32 ONNX, with INT8 layers to `out`; all else is stored in FP16.

    Takes twice the memory of the FP32 weights, and what running a row takes.

    Args:
        model_path: weights in the file or beside it. All of them are read into memory.
        rows: inputs by name, each with its batch axis, that the activations' ranges are taken from.
        keep: weights, as patterns of `fnmatch`, whose layers stay FP32: `Network.int8_keep`.
        out: where the file appears; weights of more than 1 GB lie beside it, in `out`'s name and ".data".
        metadata: the file's entries.

    Raises:
        BuildError: the disk is full, or the folder cannot be written.
    """
    model = fold(onnx.load(str(model_path)))
    chosen = without(layers(model), keep)
    ranges = measure_ranges(model, activations(chosen), rows)
    quantized = insert(model, ranges, chosen)
    del model
    # No engine on a CPU computes in FP16: what is not INT8 is stored in it and computed in FP32.
    write_network(shorten_names(to_half(quantized, {ALL_OPS})), metadata, out)


def without(found: Iterable[Layer], keep: Sequence[str]) -> list[Layer]:
    """The layers whose weights match none of the patterns."""
    return [layer for layer in found if not any(fnmatch(layer.weights, pattern) for pattern in keep)]
