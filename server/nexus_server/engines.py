"""Which file serves a network on this machine: its TensorRT plan where that fits, else the ONNX file beside it.

A plan runs on the kind of GPU and the TensorRT that it was built with, and nowhere else; its manifest tells both.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from nexus_server import manifest
from nexus_server.manifest import Manifest, ManifestError

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
    """What serves the network whose version folder, NETWORK/1, is `folder` on `node`; raises nothing for a bad plan."""
    onnx = ONNX if (folder / ONNX).exists() else None
    if not (folder / PLAN).exists():
        return Choice(onnx, "")
    try:
        found = manifest.read(folder / f"{PLAN}.json")
        complaint = _mismatch(folder, found, node)
    except ManifestError as error:
        return Choice(onnx, str(error))
    except OSError as error:
        return Choice(onnx, f"cannot be checked ({error.strerror})")
    return Choice(onnx, complaint) if complaint else Choice(PLAN, "", found.rows)


def _mismatch(folder: Path, found: Manifest, node: Node) -> str:
    """Why the plan in `folder` is not for `node`, as the end of a sentence about it; "" when it is. Raises OSError."""
    if found.library != _BACKENDS[PLAN]:
        return f"is of {found.library}, which Triton does not serve"
    if found.network != folder.parent.name:
        return f"is of the network {found.network}"
    if not node.gpus:
        return f"is for {found.gpu}, this machine has no GPU"
    if node.gpus != (found.gpu,):
        these = "this GPU is" if len(node.gpus) == 1 else "these GPUs are"
        return f"is for {found.gpu}, {these} {' and '.join(node.gpus)}"
    plan = folder / PLAN
    if not plan.is_file():
        return "is not a file"
    if (size := plan.stat().st_size) != found.engine_bytes:
        return f"has {size} bytes where its manifest says {found.engine_bytes}"
    if node.tensorrt is None:
        return "needs TensorRT, which this Triton does not have"
    if node.tensorrt and found.library_version.split(".")[:3] != node.tensorrt.split(".")[:3]:
        return f"is of TensorRT {found.library_version}, this Triton has {node.tensorrt}"
    if (folder / ONNX).exists() and ONNX not in found.onnx_sha256:
        return f"has a manifest that does not say from which {ONNX} it was built"
    # Last, because at full size it takes seconds.
    if _sha256(plan) != found.engine_sha256:
        return "is not the file that its manifest describes"
    for name, digest in found.onnx_sha256.items():
        if (folder / name).is_file() and _sha256(folder / name) != digest:
            return f"was built from another {name}"
    return ""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
