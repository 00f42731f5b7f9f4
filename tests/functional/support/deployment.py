"""Paths of the repository, and measurements of a running deployment."""

from __future__ import annotations

import contextlib
import re
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import psutil
import tritonclient.grpc as grpc
from nexus_server.local import LocalServer

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "model_repository"
PHOTOS = ROOT / "demo/photos"


def subset(folder: Path, *models: str) -> Path:
    """Make `folder` a repository of only `models`; every stub fewer makes a server's start half a second shorter."""
    folder.mkdir(parents=True)
    for model in models:
        (folder / model).symlink_to(MODELS / model)
    return folder


def executions(triton: grpc.InferenceServerClient, model: str) -> int:
    """How many times Triton has executed `model` (a batch counts once, a cache hit not at all)."""
    return int(triton.get_inference_statistics(model).model_stats[0].execution_count)


def in_flight(server: LocalServer, pipeline: str) -> int:
    """How many requests `pipeline` has admitted and not answered yet, by its own metric."""
    with urllib.request.urlopen(server.metrics_url) as response:
        (count,) = re.findall(
            rf'nexus_requests_in_flight\{{pipeline="{pipeline}"\}} (\d+)', response.read().decode()
        )
    return int(count)


def processes(server: LocalServer) -> list[psutil.Process]:
    """The supervisor, tritonserver and every stub."""
    root = psutil.Process(server.process.pid)
    return [root, *root.children(recursive=True)]


def resident_bytes(server: LocalServer) -> int:
    """Memory of the deployment as proportional set size, which counts a page that several processes share once."""
    total = 0
    for process in processes(server):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def fewest_executions(attempt: Callable[[int], int], limit: float) -> None:
    """Raises AssertionError unless one of `attempt(0)`, `attempt(1)` and `attempt(2)` needs at most `limit` executions.

    Requests share an execution only if they arrive within milliseconds of one another; a busy machine may prevent that.
    """
    needed = []
    for number in range(3):
        needed.append(attempt(number))
        if needed[-1] <= limit:
            return
    raise AssertionError(f"{needed} executions in three attempts, where {limit:g} should do")


class PeakMemory:
    """Samples the deployment's resident memory while a block runs."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.bytes = 0

    def _sample(self) -> None:
        while not self._done.wait(0.02):
            self.bytes = max(self.bytes, resident_bytes(self._server))

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
