"""An artifact's own record: its ONNX metadata, its size, and its measured quality."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from nexus_export.files import sha256_of
from nexus_export.networks import FIXED_DIMS_KEY, Precision, Target

# The ONNX metadata entry that identifies the sources of a network of the default profile, see `Recipe.fingerprint`.
FINGERPRINT_KEY = "nexus_export.fingerprint"
# The entry in its place for a network built from a checkpoint: its published name, or its file's name.
CHECKPOINT_KEY = "nexus_export.checkpoint"
PRECISION_KEY = "nexus_export.precision"
# The entry of the target that an INT8 network was written for; TensorRT accepts only the form for GPUs.
TARGET_KEY = "nexus_export.processor"
SOURCE_KEY = "source"
LICENCE_KEY = "licence"

# The file beside the artifact that holds its measured quality.
QUALITY_FILE = "quality.json"


def metadata_of(
    origin: Mapping[str, str], precision: Precision, fixed_dims: Mapping[str, int], target: Target
) -> dict[str, str]:
    """The entries of an artifact; `origin` names its source, and only INT8 depends on `target`."""
    form = {TARGET_KEY: target} if precision == "int8" else {}
    sizes = {FIXED_DIMS_KEY: json.dumps(dict(fixed_dims))} if fixed_dims else {}
    return {**origin, PRECISION_KEY: precision, **form, **sizes}


def read_metadata(path: Path) -> dict[str, str]:
    """An artifact's metadata; empty for a file that is no ONNX model."""
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        return {}
    return {entry.key: entry.value for entry in model.metadata_props}


def precision_of(metadata: Mapping[str, str]) -> Precision:
    """The precision of the artifact; one without the entry is older than the choice, and FP32."""
    match metadata.get(PRECISION_KEY):
        case "fp16":
            return "fp16"
        case "int8":
            return "int8"
        case _:
            return "fp32"


def target_of(metadata: Mapping[str, str]) -> Target:
    """The target that the artifact was written for; only INT8 ones have the entry."""
    return "gpu" if metadata.get(TARGET_KEY) == "gpu" else "cpu"


def file_bytes(path: Path) -> int:
    """An artifact's size on the disk, with its weights' own file."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*"))


def digests(path: Path) -> dict[str, str]:
    """The SHA-256 of an artifact, and of its weights where they lie beside it, by file name."""
    files = (path, path.with_name(f"{path.name}.data"))
    return {file.name: sha256_of(file) for file in files if file.is_file()}


def read_quality(path: Path) -> dict[str, Any] | None:
    """The measured quality of the artifact at `path`; None if it was not measured, or another file was."""
    try:
        quality: dict[str, Any] = json.loads((path.with_name(QUALITY_FILE)).read_text())
    except (OSError, ValueError):
        return None
    return quality if quality.get("onnx_sha256") == digests(path) else None
