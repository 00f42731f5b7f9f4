"""Chooses the file that serves a network on this machine: its TensorRT plan if that fits, else the ONNX file beside it.

A plan runs only on the GPU architecture and the TensorRT version that it was built with; its manifest names both.
"""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tritonclient.grpc.model_config_pb2 import ModelConfig

from nexus_server import manifest
from nexus_server.log import log
from nexus_server.manifest import Manifest, ManifestError

PLAN, ONNX = "model.plan", "model.onnx"
_BACKENDS = {PLAN: "tensorrt", ONNX: "onnxruntime"}

_GPUS = ("nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader")
_VENDOR_BACKEND = Path("/opt/tritonserver/backends/tensorrt")
# Where the vendor's image keeps TensorRT; the version is in the file name, libnvinfer.so.10.13.2.
_LIBRARIES = Path("/usr/lib")
_LIBRARY = "*-linux-gnu/libnvinfer.so.*.*.*"
_GPUS_TIMEOUT_S = 10
# Checking a plan of more bytes takes seconds, so the log announces it.
_LARGE_BYTES = 1 << 29
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Node:
    """What a plan has to fit: the distinct architectures of this machine's GPUs ("sm86"), and its Triton's TensorRT.

    `tensorrt` is the version; "" if unknown, None if Triton has no TensorRT. `gpu_error` is why the GPUs could not be
    listed, "" if they could.
    """

    gpus: tuple[str, ...]
    tensorrt: str | None
    gpu_error: str = ""


NO_GPU = Node((), None)


@dataclass(frozen=True)
class Choice:
    """The file that serves a network, None if none can.

    `complaint` is why its plan cannot serve, a predicate whose subject is the plan; "" if it can or there is none.
    `max_batch_size` is the plan's own limit.
    """

    file: str | None
    complaint: str
    max_batch_size: int | None = None

    def complete(self, config: ModelConfig) -> None:
        """Write into `config` the file, its backend, and the smaller of the two batch limits."""
        assert self.file is not None
        config.backend, config.default_model_filename = _BACKENDS[self.file], self.file
        if self.max_batch_size is not None:
            config.max_batch_size = min(config.max_batch_size, self.max_batch_size)


def find_node() -> Node:
    """Describe this machine: its GPUs by `nvidia-smi`, and the TensorRT of the vendor's Triton."""
    gpus, gpu_error = _gpus()
    tensorrt = None
    if _VENDOR_BACKEND.is_dir():
        versions = [path.name.partition(".so.")[2] for path in _LIBRARIES.glob(_LIBRARY)]
        tensorrt = max(
            versions, key=lambda version: [int(part) for part in re.findall(r"\d+", version)], default=""
        )
    return Node(tuple(sorted({f"sm{gpu.replace('.', '')}" for gpu in gpus})), tensorrt, gpu_error)


def _gpus() -> tuple[list[str], str]:
    """The compute capabilities ("8.6") of the GPUs that CUDA may use, and why they could not be listed."""
    if not shutil.which(_GPUS[0]):
        return [], ""
    try:
        done = subprocess.run(_GPUS, capture_output=True, text=True, timeout=_GPUS_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return [], f"nvidia-smi does not answer within {_GPUS_TIMEOUT_S} s"
    except OSError as error:
        return [], f"nvidia-smi cannot be run ({error.strerror})"
    lines = done.stdout.splitlines()
    # Without a working driver it prints a sentence instead.
    if done.returncode or not all(re.fullmatch(r"\d+\.\d", line) for line in lines):
        message = (done.stdout + done.stderr).strip() or f"no output, exit status {done.returncode}"
        return [], f"nvidia-smi: {message.splitlines()[0]}"
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    # GPUs chosen by UUID are not resolved here: Triton itself then refuses a plan that does not fit them.
    if visible is None or not re.fullmatch(r"[\d,\s-]*", visible):
        return lines, ""
    chosen = []
    for index in visible.split(","):  # CUDA ignores everything from the first invalid index on
        if not index.strip().isdecimal() or int(index) >= len(lines):
            break
        chosen.append(lines[int(index)])
    return chosen, ""


def choose(folder: Path, node: Node) -> Choice:
    """Choose the file in the version folder `folder` (NETWORK/1) that serves on `node`. A bad plan raises nothing."""
    onnx = ONNX if (folder / ONNX).exists() else None
    if not (folder / PLAN).exists():
        return Choice(onnx, "")
    try:
        described = manifest.read(folder / f"{PLAN}.json")
        complaint = _mismatch(folder, described, node)
    except ManifestError as error:
        return Choice(onnx, str(error))
    except OSError as error:
        return Choice(onnx, f"cannot be checked ({error.strerror})")
    return Choice(onnx, complaint) if complaint else Choice(PLAN, "", described.max_batch_size)


def _mismatch(folder: Path, described: Manifest, node: Node) -> str:
    """Why the plan in `folder` cannot serve on `node`, as `Choice.complaint`. Raises OSError for an unreadable file."""
    if described.library != _BACKENDS[PLAN]:
        return f"was built with {described.library}, which Triton does not serve"
    if described.network != folder.parent.name:
        return f"belongs to the network {described.network}"
    if not node.gpus:
        return f"is for {described.gpu}, {node.gpu_error or 'this machine has no GPU'}"
    if node.gpus != (described.gpu,):
        these = "this GPU is" if len(node.gpus) == 1 else "these GPUs are"
        return f"is for {described.gpu}, {these} {' and '.join(node.gpus)}"
    plan = folder / PLAN
    if not plan.is_file():
        return "is not a file"
    if (size := plan.stat().st_size) != described.engine_bytes:
        return f"has {size} bytes where its manifest says {described.engine_bytes}"
    if node.tensorrt is None:
        return "needs TensorRT, which this Triton does not have"
    if node.tensorrt and described.library_version.split(".")[:3] != node.tensorrt.split(".")[:3]:
        return f"was built with TensorRT {described.library_version}, this Triton has {node.tensorrt}"
    if (folder / ONNX).exists() and ONNX not in described.onnx_sha256:
        return f"has a manifest that does not name the {ONNX} it was built from"
    # Last, because reading a plan of full size takes seconds.
    if described.engine_bytes > _LARGE_BYTES:
        log(f"checking {described.network}'s plan")
    if _sha256(plan) != described.engine_sha256:
        return "is not the file that its manifest describes"
    for name, digest in described.onnx_sha256.items():
        if (folder / name).is_file() and _sha256(folder / name) != digest:
            return f"was built from a different {name}"
    return ""


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
