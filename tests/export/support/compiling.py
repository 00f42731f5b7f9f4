"""Networks at a precision, in a model repository, ready to be compiled."""

import dataclasses
from pathlib import Path

import onnx
from nexus_export.artifacts import PRECISION_KEY
from nexus_export.files import write_file
from nexus_export.networks import NETWORKS, Network, Precision, Range, artifact
from nexus_export.precision.fp16 import to_half


def at_fp16(fp32: Path, name: str, repository: Path) -> None:
    """Put the network whose FP32 file is `fp32` into `repository`, converted."""
    model = onnx.load(str(fp32))
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    put(to_half(model, NETWORKS[name].fp32_ops), metadata, "fp16", name, repository)


def put(
    model: onnx.ModelProto, metadata: dict[str, str], precision: Precision, name: str, repository: Path
) -> None:
    """Write a network with the metadata of its precision."""
    onnx.helper.set_model_props(model, {**metadata, PRECISION_KEY: precision})
    write_file(artifact(name, repository), model.SerializeToString())


def two_sided(name: str) -> Network:
    """The network; LaMa with heights and widths of different ranges, so that none of its sizes is square."""
    network = NETWORKS[name]
    if name != "lama":
        return network
    return dataclasses.replace(network, axes={"height": Range(64, 256, 512), "width": Range(128, 512, 1024)})
