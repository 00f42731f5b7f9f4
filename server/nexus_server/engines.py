"""Which file serves a network on this machine: its TensorRT plan where that fits, else the ONNX file beside it.

A plan runs on the kind of GPU and the TensorRT that it was built with, and nowhere else; its manifest tells both.
"""

from __future__ import annotations

import hashlib
import os
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
_GPUS_TIMEOUT_S = 10
_LONG_BYTES = 1 << 29
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Node:
    """What a plan has to fit: the architectures of this machine's GPUs ("sm86"), each once, and its Triton's TensorRT.

    `tensorrt` is the version, "" where it is not known, None where Triton has no TensorRT. `trouble` is why the GPUs
    are not known, "" where they are.
    """

    gpus: tuple[str, ...]
    tensorrt: str | None
    trouble: str = ""


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
    gpus, trouble = _gpus()
    tensorrt = None
    if _VENDOR_BACKEND.is_dir():
        found = [path.name.partition(".so.")[2] for path in _LIBRARIES.glob(_LIBRARY)]
        tensorrt = max(
            found, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], default=""
        )
    return Node(tuple(sorted({f"sm{gpu.replace('.', '')}" for gpu in gpus})), tensorrt, trouble)


def _gpus() -> tuple[list[str], str]:
    """The compute capabilities of the GPUs that CUDA may use ("8.6"), or why they are not known."""
    if not shutil.which(_GPUS[0]):
        return [], ""
    try:
        done = subprocess.run(_GPUS, capture_output=True, text=True, timeout=_GPUS_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi gives no answer within {_GPUS_TIMEOUT_S} s"
    except OSError as error:
        return [], f"nvidia-smi cannot be run ({error.strerror})"
    lines = done.stdout.splitlines()
    # Without a working driver it says so in words.
    if done.returncode or not all(re.fullmatch(r"\d+\.\d", line) for line in lines):
        words = (done.stdout + done.stderr).strip() or f"nothing, and ends with status {done.returncode}"
        return [], f"nvidia-smi says: {words.splitlines()[0]}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # Names of GPUs in place of indices are not told apart here: Triton then refuses a plan that is not for them.
    if visible is None or not re.fullmatch(r"[\d,\s-]*", visible):
        return lines, ""
    chosen = []
    for index in visible.split(","):  # CUDA takes those before the first that is none
        if not index.strip().isdecimal() or int(index) >= len(lines):
            break
        chosen.append(lines[int(index)])
    return chosen, ""


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
        return f"is for {found.gpu}, {node.trouble or 'this machine has no GPU'}"
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
    # Last, because at full size it takes seconds, and the user is told of those.
    if found.engine_bytes > _LONG_BYTES:
        print(f"nexus-server: checking {found.network}'s plan", flush=True)
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
