"""Which file serves a network on this machine: its TensorRT plan where that fits, else the ONNX file beside it.

A plan runs on the kind of GPU and the TensorRT that it was built with, and nowhere else; its manifest, model.plan.json,
tells both. export/nexus_export/engines/manifest.py writes that file, and tests/export/test_engines.py holds both to
one format.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tritonclient.grpc.model_config_pb2 import ModelConfig

PLAN, ONNX = "model.plan", "model.onnx"
_BACKENDS = {PLAN: "tensorrt", ONNX: "onnxruntime"}

_GPUS = ("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
_VENDOR_BACKEND = Path("/opt/tritonserver/backends/tensorrt")
# The vendor's image has it there; the file's name tells the version, libnvinfer.so.10.13.2.
_LIBRARIES = Path("/usr/lib")
_LIBRARY = "*-linux-gnu/libnvinfer.so.*.*.*"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Node:
    """What a plan has to fit: the architectures of this machine's GPUs ("sm86"), each once, and its Triton's TensorRT.

    `tensorrt` is the version, "" where it is not known, None where Triton has no TensorRT.
    """

    gpus: tuple[str, ...]
    tensorrt: str | None


NO_GPU = Node((), None)


@dataclass(frozen=True)
class Choice:
    """The file that serves a network, None where none can, and what is the matter with its plan, "" for nothing."""

    file: str | None
    complaint: str
    max_batch_size: int | None = None

    def complete(self, config: ModelConfig) -> None:
        """Tell `config` of the file: its backend, and the largest batch where that is the engine's own."""
        assert self.file is not None
        config.backend, config.default_model_filename = _BACKENDS[self.file], self.file
        if self.max_batch_size is not None:
            config.max_batch_size = min(config.max_batch_size, self.max_batch_size)


def find_node() -> Node:
    """This machine: what `nvidia-smi` says of its GPUs, and the TensorRT of the vendor's Triton."""
    gpus: list[str] = []
    if shutil.which(_GPUS[0]):
        done = subprocess.run(_GPUS, capture_output=True, text=True)
        # Without a working driver it says so in words.
        gpus = re.findall(r"^(\d+\.\d)$", done.stdout, re.MULTILINE)
    tensorrt = None
    if _VENDOR_BACKEND.is_dir():
        found = sorted(_LIBRARIES.glob(_LIBRARY))
        tensorrt = found[-1].name.partition(".so.")[2] if found else ""
    return Node(tuple(sorted({f"sm{gpu.replace('.', '')}" for gpu in gpus})), tensorrt)


def choose(folder: Path, node: Node) -> Choice:
    """What serves the network whose version folder is `folder` on `node`."""
    onnx = ONNX if (folder / ONNX).exists() else None
    if not (folder / PLAN).exists():
        return Choice(onnx, "")
    try:
        manifest: dict[str, Any] = json.loads((folder / f"{PLAN}.json").read_text())
        complaint = _mismatch(folder, manifest, node)
        rows = min(shapes["most"][0] for shapes in manifest["profile"].values())
    except FileNotFoundError:
        return Choice(onnx, "has no manifest")
    except (ValueError, KeyError, TypeError):
        return Choice(onnx, "has a manifest that cannot be read")
    return Choice(onnx, complaint) if complaint else Choice(PLAN, "", rows)


def _mismatch(folder: Path, manifest: dict[str, Any], node: Node) -> str:
    """Why the plan in `folder` is not for `node`, as the end of a sentence about it; "" when it is."""
    gpu, version = manifest["gpu"], manifest["library_version"]
    if not node.gpus:
        return f"is for {gpu}, this machine has no GPU"
    if node.gpus != (gpu,):
        these = "this GPU is" if len(node.gpus) == 1 else "these GPUs are"
        return f"is for {gpu}, {these} {' and '.join(node.gpus)}"
    plan = folder / PLAN
    if (size := plan.stat().st_size) != manifest["engine_bytes"]:
        return f"has {size} bytes where its manifest says {manifest['engine_bytes']}"
    if node.tensorrt is None:
        return "needs TensorRT, which this Triton does not have"
    if node.tensorrt and version.split(".")[:3] != node.tensorrt.split(".")[:3]:
        return f"is of TensorRT {version}, this Triton has {node.tensorrt}"
    # Last, because at full size it takes seconds.
    if _sha256(plan) != manifest["engine_sha256"]:
        return "is not the file that its manifest describes"
    for name, digest in manifest["onnx_sha256"].items():
        if (folder / name).exists() and _sha256(folder / name) != digest:
            return f"was built from another {name}"
    return ""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
